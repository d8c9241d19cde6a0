"""Puts records that cannot be stored into chat.dlq: unchanged, with where they came from and why in the headers."""

from __future__ import annotations

import structlog

from logue_common.events import Headers
from logue_common.producer import Producer
from logue_common.topics import CHAT_DLQ, MAX_RECORD_BYTES
from logue_conversation import metrics
from logue_conversation.batches import Record
from logue_conversation.errors import DataRejectedError
from logue_conversation.tables import ISOLATION_CONSTRAINT

UNREADABLE = "unreadable"
ISOLATION = "isolation"
_MAX_TEXT_BYTES = 1000
#: Room for our headers, so that a record of the largest size still fits.
_MAX_VALUE_BYTES = MAX_RECORD_BYTES - 64 * 1024

_log = structlog.get_logger(__name__)


def class_of(error: DataRejectedError) -> str:
    """`isolation` for a conversation that is another user's, else the SQLSTATE."""
    return ISOLATION if error.constraint == ISOLATION_CONSTRAINT else f"sqlstate_{error.sqlstate}"


async def bury(producer: Producer, record: Record, error_class: str, text: str) -> None:
    """Write `record` to chat.dlq; returns when the broker has it. Raises NotSentError or DeliveryUnknownError."""
    value = record.value or b""
    headers: Headers = [
        ("original_topic", record.topic.encode()),
        ("original_partition", b"%d" % record.partition),
        ("original_offset", b"%d" % record.offset),
        ("error_class", error_class.encode()),
        ("error", text.encode(errors="replace")[:_MAX_TEXT_BYTES]),
        ("consumer", b"conversation"),
        *record.headers,
    ]
    if len(value) > _MAX_VALUE_BYTES:
        value = value[:_MAX_VALUE_BYTES]
        headers.append(("truncated", b"true"))
    key = (record.key or b"").decode(errors="replace")
    await producer.send(CHAT_DLQ, key=key, value=value, headers=headers)
    metrics.DEAD_LETTERS.labels(error_class).inc()
    if error_class == ISOLATION:
        metrics.ISOLATION.inc()
    _log.error(
        "record_buried",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        error_class=error_class,
    )
