"""Numbers the frames of one attempt at one turn and produces them to the partition where its gateway waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from aiokafka.errors import KafkaError

from logue_agent import metrics
from logue_agent.coalesce import Coalescer
from logue_agent.turn import Turn
from logue_common.events import ChatRequested
from logue_common.frames import CHECKPOINT, DELTA, QUEUED, RESET, FrameHeader, delta_data, snapshot_data, sse_data
from logue_common.producer import NotSentError, Producer
from logue_common.topics import CHAT_STREAM


async def send_frame(
    producer: Producer,
    request: ChatRequested,
    header: FrameHeader,
    value: bytes,
    on_done: Callable[[], None] | None = None,
) -> None:
    """Hand one frame to the producer. A frame that cannot be sent is counted and forgotten: readers heal the gap."""
    metrics.FRAMES.labels(header.kind).inc()
    try:
        delivery = await producer.enqueue(
            CHAT_STREAM,
            key=request.turn_id,
            value=value,
            headers=header.encode(),
            partition=request.reply_to.partition,
        )
    except (NotSentError, KafkaError, AssertionError):  # aiokafka asserts that the partition exists
        metrics.FRAMES_LOST.inc()
        if on_done is not None:
            on_done()
        return
    if on_done is not None:
        delivery.add_done_callback(lambda _: on_done())


class FrameWriter:
    """The frames of one attempt. `text` is everything that the model has said so far."""

    def __init__(self, producer: Producer, turn: Turn) -> None:
        self._producer = producer
        self._turn = turn
        self._attempt = turn.attempt
        self._coalescer = Coalescer()
        self._pieces: list[str] = []
        self._sent: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._flushes: set[asyncio.Task[None]] = set()
        self._order = asyncio.Lock()
        self._closed = False
        self._checkpoint_at = self._loop.time()
        #: How long the model took to its first text; goes out with that text.
        self.model_ms: int | None = None

    @property
    def text(self) -> str:
        """Everything said in this attempt."""
        return "".join(self._pieces)

    @property
    def checkpoint_at(self) -> float:
        """Loop time of the last checkpoint, or of the start."""
        return self._checkpoint_at

    async def reset(self, reason: str) -> None:
        """Tell readers of an earlier attempt to forget its text."""
        await self._send(RESET, sse_data({"attempt": self._attempt, "reason": reason}))

    async def queued(self, position: int) -> None:
        """Tell how many turns of the conversation come first."""
        await self._send(QUEUED, sse_data({"position": position}))

    async def say(self, piece: str) -> None:
        """Add text of the model. It goes out at once when nothing is under way, else within 40 ms."""
        self._pieces.append(piece)
        if self._coalescer.add(piece, self._loop.time()):
            await self.flush()
            if len(self._pieces) == 1:  # perhaps all came together: the first text goes before the outcome is made
                await self._producer.let_go()
        elif self._timer is None and self._coalescer.due_at is not None:
            self._timer = self._loop.call_at(self._coalescer.due_at, self._flush_soon)

    async def flush(self) -> None:
        """Send the gathered text now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        async with self._order:
            text = self._coalescer.take()
            if text and not self._closed:
                self._coalescer.sent()
                self._sent.append(text)
                await self._send(DELTA, delta_data(text), self._acknowledged)

    async def checkpoint(self) -> None:
        """Send the text of all frames so far, for readers that come late."""
        self._checkpoint_at = self._loop.time()
        await self.flush()
        async with self._order:
            if not self._closed:
                self._sent = ["".join(self._sent)]
                await self._send(CHECKPOINT, snapshot_data(self._sent[0]))

    def close(self) -> None:
        """No frame leaves after this."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _send(self, kind: str, value: bytes, on_done: Callable[[], None] | None = None) -> None:
        request = self._turn.request
        header = FrameHeader(request.user_id, self._attempt, self._turn.next_n(), kind)
        if kind == DELTA and self.model_ms is not None:
            header, self.model_ms = replace(header, model_ms=self.model_ms), None
        await send_frame(self._producer, request, header, value, on_done)

    def _acknowledged(self) -> None:
        if self._coalescer.acknowledged() and not self._closed:
            self._flush_soon()

    def _flush_soon(self) -> None:
        self._timer = None
        task = self._loop.create_task(self.flush())
        self._flushes.add(task)
        task.add_done_callback(self._flushes.discard)
