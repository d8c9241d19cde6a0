"""chat.dlq: records that a consumer could not use, unchanged, with where they came from and why in the headers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import structlog

from logue_common import metrics
from logue_common.events import Headers
from logue_common.producer import DeliveryUnknownError, NotSentError, Producer
from logue_common.topics import CHAT_DLQ, MAX_RECORD_BYTES

#: Records that wait for chat.dlq, and their bytes, before further ones are only named in the log.
MAX_WAITING = 1000
MAX_WAITING_BYTES = 32 * 1024 * 1024
_RETRY_SECONDS = 1.0
#: How long `close` goes on trying.
_CLOSE_SECONDS = 3.0

_log = structlog.get_logger(__name__)

_MAX_TEXT_BYTES = 1000
#: Room for our headers, so that a record of the largest size still fits.
_MAX_VALUE_BYTES = MAX_RECORD_BYTES - 64 * 1024


class Record(Protocol):
    """A consumed record, as aiokafka's ConsumerRecord."""

    topic: str
    partition: int
    offset: int
    #: Milliseconds since the epoch.
    timestamp: int
    key: bytes | None
    value: bytes | None

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Names may repeat."""


class _Letter(NamedTuple):
    key: str
    value: bytes
    headers: Headers


class DeadLetters:
    """Takes records that cannot be used out of the way, whatever the state of chat.dlq.

    It has a producer of its own: a chat.dlq that takes nothing must not hold up, or break, what others send.
    """

    def __init__(self, producer: Producer, *, consumer: str) -> None:
        self._producer = producer
        self._consumer = consumer
        self._waiting: deque[_Letter] = deque()
        self._waiting_bytes = 0
        self._task: asyncio.Task[None] | None = None

    async def bury(self, record: Record, *, error_class: str, text: str) -> None:
        """Write `record` to chat.dlq; returns when the broker has it.

        Or in some seconds, when chat.dlq cannot be written: then the record waits in memory, and further ones join it
        at once. One for which there is no room is named in the log; it stays in its topic until that forgets it.
        """
        self._producer.start()
        letter = _letter(record, self._consumer, error_class, text)
        if not self._waiting and await self._send(letter):
            return
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + len(letter.value) > MAX_WAITING_BYTES:
            metrics.DEAD_LETTERS_DROPPED.inc()
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            _log.error("dead_letter_dropped", **place, error_class=error_class)
            return
        self._waiting.append(letter)
        self._waiting_bytes += len(letter.value)
        metrics.DEAD_LETTERS_WAITING.set(len(self._waiting))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send_waiting(), name="dead-letters")

    async def close(self) -> None:
        """Try for a moment to write what waits, and let go."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_CLOSE_SECONDS)
            self._task.cancel()
        if self._waiting:
            _log.error("dead_letters_lost", records=len(self._waiting))
        await self._producer.close()

    async def _send_waiting(self) -> None:
        while self._waiting:
            if await self._send(self._waiting[0]):
                self._waiting_bytes -= len(self._waiting.popleft().value)
                metrics.DEAD_LETTERS_WAITING.set(len(self._waiting))
            else:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _send(self, letter: _Letter) -> bool:
        try:
            await self._producer.send(CHAT_DLQ, key=letter.key, value=letter.value, headers=letter.headers)
        except (NotSentError, DeliveryUnknownError) as error:
            _log.warning("dead_letter_waits", cause=str(error))
            return False
        return True


def _letter(record: Record, consumer: str, error_class: str, text: str) -> _Letter:
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
    return _Letter((record.key or b"").decode(errors="replace"), value, headers)
