"""All that wait on this instance: admitted, fed by the two readers, kept alive, helped when frames stay out."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import orjson
import structlog

from logue_common.errors import ProblemError
from logue_gateway import metrics
from logue_gateway.store import Store
from logue_gateway.streams.endings import ending_of
from logue_gateway.streams.replay import QUIET_SECONDS, ReplayReader, Start, Trouble
from logue_gateway.streams.sse import SseStream
from logue_gateway.streams.waiters import Registry, Waiter
from logue_gateway.tasks import end

#: Heartbeats, token ends and silence are noticed this late at most.
TICK_SECONDS = 0.25
#: Lookups at the same time: the store must not suffer when thousands of streams fall silent.
MAX_LOOKUPS = 32
#: The log decided a turn but the store does not know it yet.
DECIDED_RETRY_SECONDS = 0.25
#: The store is away.
STORE_RETRY_SECONDS = 2.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many may wait, and for how long nothing may happen (seconds)."""

    max_waiters: int
    heartbeat_seconds: float
    silence_seconds: float


class Streams:
    """Where streams and waiting requests live between their request and their end."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._waiters: set[Waiter] = set()
        self._lookups: dict[Waiter, asyncio.Task[None]] = {}
        self._lookup_slots = asyncio.Semaphore(MAX_LOOKUPS)
        self._ticker: asyncio.Task[None] | None = None
        self._replay: ReplayReader | None = None
        self._stopping = False
        #: Fed by the live reader.
        self.live = Registry(
            "live",
            silence_seconds=limits.silence_seconds,
            on_attach=self.on_attach,
            on_gap=lambda _: None,  # the next checkpoint heals, within seconds
        )

    def open(self, replay: ReplayReader) -> None:
        """Begin to watch over the waiters."""
        self._replay = replay
        self._ticker = asyncio.create_task(self._tick_for_ever(), name="streams")

    async def close(self) -> None:
        """End everything that still waits."""
        self.stop()
        for task in (*self._lookups.values(), self._ticker):
            await end(task)

    def stop(self) -> None:
        """The process is asked to end: every stream ends now, so that its client resumes elsewhere."""
        self._stopping = True
        for waiter in list(self._waiters):
            waiter.stop("shutdown")

    def admit(self) -> None:
        """Raises ProblemError (503 `overloaded`) when no more may wait here."""
        if self._stopping or len(self._waiters) >= self._limits.max_waiters:
            raise ProblemError("overloaded", "The server has too many open streams. Try again in a moment.")

    def listen(self, waiter: Waiter) -> None:
        """Feed `waiter` from the live reader."""
        self._enter(waiter)
        self.live.add(waiter)

    def follow(self, waiter: Waiter, start: Start) -> None:
        """Feed `waiter` from the log, from `start` on, and then live."""
        self._enter(waiter)
        assert self._replay is not None  # noqa: S101 (open() comes first)
        if not self._replay.is_connected:
            self._ask_store(waiter)
        if isinstance(waiter, SseStream):
            waiter.refill = lambda partition, offset: self.follow(waiter, Start(partition, offset, exact=True))
        self._replay.add(waiter, start)

    def await_store(self, waiter: Waiter) -> None:
        """Nothing is known of where the frames of `waiter` are: the store will know."""
        self._enter(waiter)
        waiter.decided = True
        waiter.ask_store_at = asyncio.get_running_loop().time() + DECIDED_RETRY_SECONDS

    def leave(self, waiter: Waiter) -> None:
        """Nobody waits here any more. Idempotent."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            metrics.OPEN_WAITERS.labels(waiter.shape).dec()
        self.live.remove(waiter)
        if self._replay is not None:
            self._replay.remove(waiter)
        if (lookup := self._lookups.get(waiter)) is not None:
            lookup.cancel()

    def on_attach(self, waiter: Waiter, value: bytes) -> None:
        """The lane answers a request: its turn streams elsewhere already, or ({}) is decided."""
        target = orjson.loads(value)
        self.live.remove(waiter)
        if target:
            self.follow(waiter, Start(int(target["partition"]), int(target["offset"])))
        else:
            self.await_store(waiter)
            self._ask_store(waiter)

    def on_trouble(self, waiter: Waiter, trouble: Trouble) -> None:
        """The replay reader cannot serve `waiter` as it wanted."""
        if trouble == "lost":
            metrics.RESCANS.labels("lost").inc()
            self._ask_store(waiter)
        else:
            # A live turn has its next frame soon; thousands of lookups would only say that it is live.
            waiter.ask_store_at = asyncio.get_running_loop().time() + QUIET_SECONDS

    def _enter(self, waiter: Waiter) -> None:
        waiter.ask_store_at = asyncio.get_running_loop().time() + self._limits.silence_seconds
        if waiter not in self._waiters:
            self._waiters.add(waiter)
            metrics.OPEN_WAITERS.labels(waiter.shape).inc()

    async def _tick_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now, wall_clock = loop.time(), time.time()
            for waiter in list(self._waiters):
                try:
                    self._tick(waiter, now, wall_clock)
                except Exception:  # noqa: BLE001 (one stream's defect must not stop the clock of all others)
                    metrics.DEFECTS.labels("ticker").inc()
                    _log.exception("tick_failed", correlation_id=waiter.turn_id)

    def _tick(self, waiter: Waiter, now: float, wall_clock: float) -> None:
        if isinstance(waiter, SseStream):
            if wall_clock >= waiter.expires_at:
                waiter.stop("expired")
            waiter.keep_alive(now, self._limits.heartbeat_seconds)
            waiter.give_up_if_stuck(now)
        if now >= waiter.ask_store_at and not waiter.done:
            self._ask_store(waiter)

    def _ask_store(self, waiter: Waiter) -> None:
        if waiter not in self._lookups and not waiter.done:
            waiter.ask_store_at = float("inf")
            task = asyncio.create_task(self._lookup(waiter))
            self._lookups[waiter] = task
            task.add_done_callback(lambda _: self._lookups.pop(waiter, None))

    async def _lookup(self, waiter: Waiter) -> None:
        """Ask how the turn stands; end the waiter when it is over."""
        wait_seconds = self._limits.silence_seconds
        try:
            async with self._lookup_slots:
                stored = await self._store.turn(waiter.user_id, waiter.turn_id)
            if stored.is_over:
                waiter.settle(ending_of(stored))
            elif waiter.decided:
                wait_seconds = DECIDED_RETRY_SECONDS
        except ProblemError as error:
            # Unknown (its outcome is not stored yet) or away: the log goes on to be followed meanwhile.
            wait_seconds = DECIDED_RETRY_SECONDS if waiter.decided else min(STORE_RETRY_SECONDS, wait_seconds)
            _log.info("turn_lookup_failed", correlation_id=waiter.turn_id, code=error.code)
        finally:
            if waiter.ask_store_at == float("inf"):
                waiter.ask_store_at = asyncio.get_running_loop().time() + wait_seconds
