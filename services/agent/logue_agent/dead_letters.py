"""Sends records that cannot be read to chat.dlq, and counts them."""

from __future__ import annotations

import asyncio

from aiokafka.structs import ConsumerRecord

from logue_agent import metrics
from logue_common.dead_letters import send_dead_letter
from logue_common.producer import DeliveryUnknownError, NotSentError, Producer

_RETRY_SECONDS = 1.0
UNREADABLE = "unreadable"


async def bury(producer: Producer, record: ConsumerRecord, error: Exception) -> None:
    """Write `record` to chat.dlq, for as long as it takes: it must not be lost."""
    metrics.DEAD_LETTERS.labels(record.topic).inc()
    while True:
        try:
            await send_dead_letter(producer, record, consumer="agent", error_class=UNREADABLE, text=str(error))
        except (NotSentError, DeliveryUnknownError):
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return
