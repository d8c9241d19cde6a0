"""The live reader: frames on this instance's own partitions of chat.stream, to those who wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any

import orjson
import structlog
from aiokafka import ConsumerRecord

from logue_common.events import ReplyTo
from logue_common.frames import ATTACH, QUEUED, FrameHeader
from logue_common.topics import CHAT_STREAM
from logue_gateway import metrics
from logue_gateway.memory import TurnMemory
from logue_gateway.overload import OverloadGuard
from logue_gateway.streams.tail import TailReader
from logue_gateway.streams.waiters import FrameRecord, Registry

_log = structlog.get_logger(__name__)


def own_partitions(index: int, count: int, total: int) -> list[int]:
    """The partitions of chat.stream on which instance `index` waits, `count` of `total`. Others may share them."""
    return sorted({(index * count + number) % total for number in range(count)})


def frame_of(record: ConsumerRecord, reader: str) -> FrameRecord | None:
    """The frame in `record`; None, and counted, when it is none."""
    try:
        header = FrameHeader.decode(record.headers)
        return FrameRecord(record.partition, record.offset, record.key.decode(), header, record.value or b"")
    except (ValueError, AttributeError):
        metrics.FRAMES.labels(reader, "unreadable").inc()
        return None


def deliver(registry: Registry, frame: FrameRecord, *, reader: str, now: float) -> None:
    """Give `frame` to its waiters. A frame whose value is not what its kind promises harms only its own turn."""
    try:
        registry.deliver(frame, now)
    except (ValueError, KeyError, TypeError) as error:
        metrics.FRAMES.labels(reader, "unreadable").inc()
        _log.warning("frame_unreadable", correlation_id=frame.turn_id, cause=type(error).__name__)


class LiveReader:
    """Knows where replies to this instance must be sent, and reads them there."""

    def __init__(
        self,
        options: dict[str, Any],
        *,
        index: int,
        count: int,
        registry: Registry,
        memory: TurnMemory,
        overload: OverloadGuard,
    ) -> None:
        self._registry = registry
        self._memory = memory
        self._overload = overload
        self._turns = itertools.count()
        self.tail = TailReader(
            options,
            CHAT_STREAM,
            client_id=f"gateway-{index}-live",
            choose=lambda total: own_partitions(index, count, total),
            on_record=self._on_record,
        )

    def reply_to(self, request_id: str) -> ReplyTo | None:
        """Where the next turn's frames go: turns spread over the own partitions. None before Kafka was reached."""
        positions = self.tail.positions
        if not positions:
            return None
        partition = list(positions)[next(self._turns) % len(positions)]
        return ReplyTo(partition=partition, offset=positions[partition], request_id=request_id)

    def _on_record(self, record: ConsumerRecord) -> None:
        frame = frame_of(record, "live")
        if frame is None:
            return
        self._remember(frame)
        deliver(self._registry, frame, reader="live", now=asyncio.get_running_loop().time())

    def _remember(self, frame: FrameRecord) -> None:
        header = frame.header
        if header.model_ms is not None:
            self._overload.answered(frame.turn_id, header.model_ms / 1000)
        elif header.kind == QUEUED:
            self._overload.forget(frame.turn_id)
        elif header.is_end:
            self._overload.forget(frame.turn_id)
            self._memory.mark_over(header.user, frame.turn_id)
        elif header.kind == ATTACH:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # counted when it is delivered
                self._memory.move(header.user, frame.turn_id, header.request, orjson.loads(frame.value))
