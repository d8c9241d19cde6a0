"""Puts records that cannot be stored into chat.dlq, and counts them."""

from __future__ import annotations

import structlog

from logue_common.dead_letters import Record, send_dead_letter
from logue_common.producer import Producer
from logue_conversation import metrics
from logue_conversation.errors import DataRejectedError
from logue_conversation.tables import ISOLATION_CONSTRAINT

UNREADABLE = "unreadable"
ISOLATION = "isolation"

_log = structlog.get_logger(__name__)


def class_of(error: DataRejectedError) -> str:
    """`isolation` for a conversation that is another user's, else the SQLSTATE."""
    return ISOLATION if error.constraint == ISOLATION_CONSTRAINT else f"sqlstate_{error.sqlstate}"


async def bury(producer: Producer, record: Record, error_class: str, text: str) -> None:
    """Write `record` to chat.dlq; returns when the broker has it. Raises NotSentError or DeliveryUnknownError."""
    await send_dead_letter(producer, record, consumer="conversation", error_class=error_class, text=text)
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
