"""chat.dlq: records that a consumer could not use, unchanged, with where they came from and why in the headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from logue_common.events import Headers
from logue_common.producer import Producer
from logue_common.topics import CHAT_DLQ, MAX_RECORD_BYTES

_MAX_TEXT_BYTES = 1000
#: Room for our headers, so that a record of the largest size still fits.
_MAX_VALUE_BYTES = MAX_RECORD_BYTES - 64 * 1024


class Record(Protocol):
    """A consumed record, as aiokafka's ConsumerRecord."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Names may repeat."""


async def send_dead_letter(producer: Producer, record: Record, *, consumer: str, error_class: str, text: str) -> None:
    """Write `record` to chat.dlq; returns when the broker has it. Raises NotSentError or DeliveryUnknownError."""
    value = record.value or b""
    headers: Headers = [
        ("original_topic", record.topic.encode()),
        ("original_partition", b"%d" % record.partition),
        ("original_offset", b"%d" % record.offset),
        ("error_class", error_class.encode()),
        ("error", text.encode(errors="replace")[:_MAX_TEXT_BYTES]),
        ("consumer", consumer.encode()),
        *record.headers,
    ]
    if len(value) > _MAX_VALUE_BYTES:
        value = value[:_MAX_VALUE_BYTES]
        headers.append(("truncated", b"true"))
    key = (record.key or b"").decode(errors="replace")
    await producer.send(CHAT_DLQ, key=key, value=value, headers=headers)
