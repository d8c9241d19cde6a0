"""Who waits for the frames of which turn, on this instance."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple

import orjson
import structlog

from logue_common.frames import ATTACH, FAILED, QUEUED, REFUSED, FrameHeader, sse_data
from logue_gateway import metrics
from logue_gateway.streams.endings import Ending

_log = structlog.get_logger(__name__)


class FrameRecord(NamedTuple):
    """One record of chat.stream."""

    partition: int
    offset: int
    turn_id: str
    header: FrameHeader
    value: bytes


class Waiter(ABC):
    """Somebody who waits for a turn: a stream or a request. Methods are called by readers and never wait."""

    #: There are ten thousand of them.
    __slots__ = (
        "ask_store_at",
        "catch_up_until",
        "decided",
        "frames",
        "request_id",
        "rescanned",
        "started_at",
        "turn_id",
        "user_id",
    )

    #: For metrics.
    shape: ClassVar[str]

    def __init__(self, user_id: str, turn_id: str, *, request_id: str | None = None) -> None:
        self.user_id = user_id
        self.turn_id = turn_id
        self.request_id = request_id
        self.started_at = asyncio.get_running_loop().time()
        self.frames = 0
        #: Loop time at which the conversation service is asked how the turn stands, unless a frame comes before.
        self.ask_store_at = float("inf")
        #: The log is known to have decided the turn: the store will tell, so it is asked more often.
        self.decided = False
        #: End of the log when a replay for it began: records before it may come faster than any client reads.
        self.catch_up_until: int | None = None
        #: Frames missed are searched for in the log once; after that the next checkpoint heals.
        self.rescanned = False

    @property
    def place(self) -> dict[str, str]:
        """What log lines name."""
        return {"correlation_id": self.turn_id, "user_id": self.user_id}

    @property
    @abstractmethod
    def done(self) -> bool:
        """True when nothing more can be given to it."""

    @property
    def gapped(self) -> bool:
        """True while something is missing before the frames that come."""
        return False

    @abstractmethod
    def offer(self, record: FrameRecord) -> None:
        """A frame of its turn."""

    @abstractmethod
    def settle(self, ending: Ending) -> None:
        """Its turn is over, says the store."""

    @abstractmethod
    def refuse(self, data: bytes) -> None:
        """Its request, not the turn, ends with this problem."""

    def refusal(self, data: bytes) -> bytes:
        """The problem in `data`, with the ids of the turn."""
        return sse_data({**orjson.loads(data), "correlation_id": self.turn_id, "turn_id": self.turn_id})

    @abstractmethod
    def stop(self, cause: str) -> None:
        """No more will come: the token expired, or this process ends."""


class ReplyWaiter(Waiter):
    """Waits for the end only."""

    __slots__ = ("_reply", "runs")

    shape = "reply"

    def __init__(self, user_id: str, turn_id: str, *, request_id: str | None = None) -> None:
        super().__init__(user_id, turn_id, request_id=request_id)
        self._reply: asyncio.Future[Ending | None] = asyncio.get_running_loop().create_future()
        self.runs = False

    @property
    def done(self) -> bool:
        return self._reply.done()

    def offer(self, record: FrameRecord) -> None:
        header = record.header
        self.runs = self.runs or header.kind != QUEUED
        if header.is_end:
            self.settle(Ending(header.kind, record.value, header.attempt, header.n))

    def settle(self, ending: Ending) -> None:
        self._finish(ending)

    def refuse(self, data: bytes) -> None:
        self._finish(Ending(FAILED, self.refusal(data), 0, 0))

    def stop(self, cause: str) -> None:  # noqa: ARG002 (a request is answered with 202, whatever the cause)
        self._finish(None)

    async def wait(self, seconds: float) -> Ending | None:
        """The end of the turn, or of this request; None when it did not come in time."""
        await asyncio.wait([self._reply], timeout=seconds)
        return self._reply.result() if self._reply.done() else None

    def _finish(self, reply: Ending | None) -> None:
        if not self._reply.done():
            self._reply.set_result(reply)


class Registry:
    """Waiters by (user, turn). A frame whose user is not the waiter's reaches nobody.

    `on_attach` is called with the value of an attach frame, `on_gap` for a waiter that misses frames.
    """

    def __init__(
        self,
        reader: str,
        *,
        silence_seconds: float,
        on_attach: Callable[[Waiter, bytes], None],
        on_gap: Callable[[Waiter], None],
    ) -> None:
        self._silence_seconds = silence_seconds
        self._on_attach = on_attach
        self._on_gap = on_gap
        self._waiters: dict[str, list[Waiter]] = {}
        counters = {result: metrics.FRAMES.labels(reader, result) for result in ("given", "nobody", "wrong_user")}
        self._given, self._nobody, self._wrong_user = counters["given"], counters["nobody"], counters["wrong_user"]

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return (waiter for waiters in list(self._waiters.values()) for waiter in list(waiters))

    def add(self, waiter: Waiter) -> None:
        """From now on `waiter` gets the frames of its turn."""
        self._waiters.setdefault(waiter.turn_id, []).append(waiter)

    def remove(self, waiter: Waiter) -> None:
        """Idempotent."""
        waiters = self._waiters.get(waiter.turn_id)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[waiter.turn_id]

    def deliver(self, record: FrameRecord, now: float) -> None:
        """Give a frame to those who wait for it; who got one asks the store later."""
        waiters = self._waiters.get(record.turn_id)
        if waiters is None:
            self._nobody.inc()
            return
        header = record.header
        for waiter in tuple(waiters):
            if waiter.user_id != header.user:
                self._wrong_user.inc()
                place = {"partition": record.partition, "offset": record.offset}
                _log.error("frame_of_another_user", correlation_id=record.turn_id, **place)
                continue
            if header.request is not None:
                if header.request == waiter.request_id:
                    self._answer(waiter, record)
                continue
            waiter.frames += 1
            waiter.ask_store_at = now + self._silence_seconds
            waiter.offer(record)
            if waiter.gapped:
                self._on_gap(waiter)
            self._given.inc()

    def _answer(self, waiter: Waiter, record: FrameRecord) -> None:
        if record.header.kind == ATTACH:
            self._on_attach(waiter, record.value)
        elif record.header.kind == REFUSED:
            waiter.refuse(record.value)
