"""One client's event stream: what it still has to get, and the response that writes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from logue_common import frames
from logue_gateway import metrics
from logue_gateway.streams.endings import Ending
from logue_gateway.streams.event_ids import EventId, StreamIds
from logue_gateway.streams.sieve import Shown, Sieve
from logue_gateway.streams.waiters import FrameRecord, Waiter

#: What became of a resumed stream, by why it was closed. Whatever else closes one is a failure of ours.
_RESULTS = {"end": "complete", **dict.fromkeys(("client", "expired", "shutdown", "refused"), "ended")}
_RETRY = b"retry: 1000\n\n"
_KEEP_ALIVE = b": keep-alive\n\n"
#: A client that takes nothing for so long is given up, even when little waits for it.
WRITE_STALL_SECONDS = 30.0
_log = structlog.get_logger(__name__)

_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class SseStream(Waiter):
    """Events of a turn for one client, as bytes. Bounded: a client that falls behind is closed, and resumes.

    `seen` is where it begins: what the client already has, or the start of the turn. `expires_at` is the token's end
    (epoch seconds).
    """

    __slots__ = (
        "_buffer_bytes",
        "_ids",
        "_pending",
        "_pending_bytes",
        "_position",
        "_sieve",
        "_stalled",
        "cause",
        "expires_at",
        "interrupt",
        "interrupted",
        "refill",
        "resumed_from",
        "sending_since",
        "wake",
        "written_at",
    )

    shape = "stream"

    def __init__(
        self,
        user_id: str,
        turn_id: str,
        *,
        ids: StreamIds,
        seen: EventId,
        expires_at: float,
        buffer_bytes: int,
        request_id: str | None = None,
    ) -> None:
        super().__init__(user_id, turn_id, request_id=request_id)
        self.expires_at = expires_at
        self.wake = asyncio.Event()
        self.written_at = self.started_at
        #: Why it ends; None while it goes on.
        self.cause: str | None = None
        #: Interrupts a write that the client does not take; set by the response.
        self.interrupt: Callable[[], object] | None = None
        self.interrupted = False
        #: Since when a write waits for the client.
        self.sending_since: float | None = None
        #: Replays the log to this stream from (partition, offset) on; set by whoever replays.
        self.refill: Callable[[int, int], None] | None = None
        self._stalled = False
        self._ids = ids
        self._sieve = Sieve(seen.attempt, seen.n, shows_text=seen.attempt > 0)
        self._position = (seen.partition, seen.offset)
        self._buffer_bytes = buffer_bytes
        #: Where it began, when it is a stream that was asked for again; for metrics.
        self.resumed_from: str | None = None
        self._pending: list[bytes] = [_RETRY]
        self._pending_bytes = len(_RETRY)

    @property
    def done(self) -> bool:
        return self.cause is not None

    @property
    def gapped(self) -> bool:
        return self._sieve.gapped

    def begin(self, conversation_id: str, user_message_id: str) -> None:
        """Put turn.started first: the turn is durable by the time it is written."""
        started = {
            "turn_id": self.turn_id,
            "conversation_id": conversation_id,
            "user_message_id": user_message_id,
        }
        self._write(Shown("turn.started", frames.sse_data(started), 0, 0), *self._position)

    def offer(self, record: FrameRecord) -> None:
        partition, offset, _, header, value = record
        if self._stalled or self._is_full(offset):
            return
        for shown in self._sieve.feed(header, value):
            self._write(shown, partition, offset if shown.covers else offset - 1)
        self._position = (partition, offset)
        if header.is_end:
            self._finish("end")

    def settle(self, ending: Ending) -> None:
        if self.cause is None:
            for shown in self._sieve.end(ending.kind, ending.data, ending.attempt, ending.n):
                self._write(shown, *self._position)
            self._finish("end")

    def refuse(self, data: bytes) -> None:
        if self.cause is None:
            self._write(Shown(frames.FAILED, self.refusal(data), self._sieve.attempt, self._sieve.n), *self._position)
            self._finish("refused")

    def stop(self, cause: str) -> None:
        self._finish(cause)

    def keep_alive(self, now: float, idle_seconds: float) -> None:
        """Write a comment when nothing was written for so long."""
        if now - self.written_at >= idle_seconds and not self._pending and self.cause is None:
            self.written_at = now
            self._push(_KEEP_ALIVE)

    def give_up_if_stuck(self, now: float) -> None:
        """End it when its client takes nothing any more."""
        if self.sending_since is not None and now - self.sending_since >= WRITE_STALL_SECONDS:
            self._finish("stuck")
            self._abort()

    def take(self, now: float) -> bytes:
        """All that waits; counts as pending until `sent`."""
        chunk = b"".join(self._pending)
        self._pending.clear()
        self.sending_since = now if chunk else None
        return chunk

    def sent(self, chunk: bytes, now: float) -> None:
        """The client's connection took `chunk`."""
        self._pending_bytes -= len(chunk)
        self.written_at, self.sending_since = now, None
        if self._stalled and not self._pending and self.refill is not None:
            self._stalled = False
            partition, offset = self._position
            self.refill(partition, offset + 1)

    def _is_full(self, offset: int) -> bool:
        """True when the record at `offset` must not be taken: because this stream stalls, or is closed just now.

        A client that catches up gets old records at its own pace: the log keeps them. One that cannot follow what is
        new is closed. One event may be larger than the bound, so the bound is on what came before it.
        """
        if self._pending_bytes < self._buffer_bytes:
            return False
        if self.refill is not None and self.catch_up_until is not None and offset < self.catch_up_until:
            self._stalled = True
            metrics.STALLS.inc()
        else:
            self._finish("slow")
        return True

    def _write(self, shown: Shown, partition: int, offset: int) -> None:
        is_end = shown.kind in frames.END_KINDS
        # Hot: EventId and StreamIds.format, inlined.
        self._push(
            b"event: %b\nid: %d.%d.%d.%d%b.%b\ndata: %b\n\n"
            % (
                shown.kind.encode(),
                partition,
                offset,
                shown.attempt,
                shown.n,
                b"e" if is_end else b"",
                self._ids.mac,
                shown.data,
            )
        )

    def _push(self, chunk: bytes) -> None:
        self._pending.append(chunk)
        self._pending_bytes += len(chunk)
        self.wake.set()

    def _finish(self, cause: str) -> None:
        if self.cause is not None:
            return
        self.cause = cause
        seconds = asyncio.get_running_loop().time() - self.started_at
        metrics.CLOSED_STREAMS.labels(cause).inc()
        metrics.STREAM_SECONDS.observe(seconds)
        metrics.SUPERSEDED.inc(self._sieve.superseded)
        if self.resumed_from is not None:
            metrics.RESUMES.labels(self.resumed_from, _RESULTS.get(cause, "failed")).inc()
        _log.info("stream_closed", **self.place, cause=cause, frames=self.frames, seconds=round(seconds, 3))
        if cause == "slow":
            self._pending.clear()
            self._abort()
        self.wake.set()

    def _abort(self) -> None:
        if self.interrupt is not None and not self.interrupted:
            self.interrupted = True
            self.interrupt()


async def _disconnected(receive: Receive) -> None:
    """Returns when the client is gone; what is left of the request's body is read over."""
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStreamResponse(Response):
    """Writes an SseStream until it is over or the client is gone; then calls `leave`."""

    def __init__(self, stream: SseStream, *, leave: Callable[[Waiter], None]) -> None:
        super().__init__()
        self._stream = stream
        self._leave = leave

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        stream = self._stream
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (ASGI applications run in a task)
        stream.interrupt = task.cancel
        gone = asyncio.create_task(_disconnected(receive))
        gone.add_done_callback(lambda _: stream.stop("client"))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await self._pump(send)
        except asyncio.CancelledError:
            if not stream.interrupted or task.uncancel() > 0:
                raise
            # The connection is closed by the server because the response is incomplete.
        finally:
            stream.interrupt = None
            stream.stop("server")
            self._leave(stream)
            gone.cancel()

    async def _pump(self, send: Send) -> None:
        stream, now = self._stream, asyncio.get_running_loop().time
        while True:
            await stream.wake.wait()
            stream.wake.clear()
            over = stream.done
            if chunk := stream.take(now()):
                await send({"type": "http.response.body", "body": chunk, "more_body": not over})
                stream.sent(chunk, now())
            elif over:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            if over:
                return
