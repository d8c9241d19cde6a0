"""Sends records that nobody can read to chat.dlq, with where they came from and why."""

from __future__ import annotations

import asyncio

from aiokafka.structs import ConsumerRecord

from logue_agent import metrics
from logue_common.events import Headers
from logue_common.producer import DeliveryUnknownError, NotSentError, Producer
from logue_common.topics import CHAT_DLQ

_RETRY_SECONDS = 1.0


async def bury(producer: Producer, record: ConsumerRecord, error: Exception) -> None:
    """Write `record` to chat.dlq, for as long as it takes."""
    metrics.DEAD_LETTERS.labels(record.topic).inc()
    headers: Headers = [
        ("original_topic", record.topic.encode()),
        ("original_partition", b"%d" % record.partition),
        ("original_offset", b"%d" % record.offset),
        ("error_class", type(error).__name__.encode()),
        ("error", str(error)[:1000].encode(errors="replace")),
        ("consumer", b"agent"),
        *record.headers,
    ]
    key = (record.key or b"").decode(errors="replace")
    while True:
        try:
            await producer.send(CHAT_DLQ, key=key, value=record.value or b"", headers=headers)
        except (NotSentError, DeliveryUnknownError):
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return
