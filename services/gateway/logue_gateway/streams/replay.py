"""The replay reader: one more consumer, shared by all resumes of this instance.

A resume wants a partition from some position on. All that come at the same time are one pass over the log: the reader
moves back to the lowest wanted position and reads on; sieves drop what their client has. Who comes while a pass is
under way and wants something before it joins the next one, so a pass always reaches the log's end as seen at its
start. Partitions that nobody wants are paused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from logue_common.consumer import stop_consumer
from logue_common.topics import CHAT_STREAM
from logue_gateway import metrics
from logue_gateway.streams.reader import deliver, frame_of
from logue_gateway.streams.tail import assign, connect, pause, rewound
from logue_gateway.streams.waiters import Registry, Waiter
from logue_gateway.tasks import end

#: Records of one partition between a wanted position and its end; beyond it a resume is served from the store and the
#: last REWIND_SECONDS. About ten seconds of a partition under full load.
MAX_SPAN_RECORDS = 100_000
#: Records handed out at once: streams get to write in between.
_BATCH_RECORDS = 200
_POLL_MS = 50
#: A live turn writes a frame, or a checkpoint, more often than that (DESIGN.md: 5 s at most), usually far more often.
QUIET_SECONDS = 2.0

#: "caught_up": read to the end without a frame of this turn. "lost": the wanted position is gone.
Trouble = Literal["caught_up", "lost"]


@dataclass(frozen=True, slots=True)
class Start:
    """Where a resume begins. `exact`: the client holds everything before; else an origin that may be long ago."""

    partition: int
    offset: int
    exact: bool = False


@dataclass(slots=True)
class _Partition:
    registry: Registry
    position: int = 0
    #: The log's end at the start of the pass.
    goal: int = 0
    active: bool = False
    newcomers: list[tuple[Waiter, Start]] = field(default_factory=list)
    #: Those that got no frame yet, until `goal` is reached.
    catching_up: list[Waiter] = field(default_factory=list)


def start_position(start: Start, *, begin: int, end: int, rewind: int) -> int | None:
    """The position from which `start` is served; None when an exact one is gone or too long ago."""
    if not start.exact:
        return min(max(start.offset, rewind, begin), end)
    return start.offset if begin <= start.offset <= end and end - start.offset <= MAX_SPAN_RECORDS else None


class ReplayReader:
    """Serves waiters from positions in the log, then follows it for them."""

    def __init__(
        self,
        options: dict[str, Any],
        *,
        index: int,
        silence_seconds: float,
        on_attach: Callable[[Waiter, bytes], None],
        on_trouble: Callable[[Waiter, Trouble], None],
    ) -> None:
        self._options = options
        self._client_id = f"gateway-{index}-replay"
        self._silence_seconds = silence_seconds
        self._on_attach = on_attach
        self._on_trouble = on_trouble
        self._partitions: dict[int, _Partition] = {}
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.is_connected = False

    def open(self) -> None:
        """Begin to connect, in the background."""
        self._task = asyncio.create_task(self._run(), name=self._client_id)

    async def close(self) -> None:
        """Stop reading."""
        await end(self._task)

    def add(self, waiter: Waiter, start: Start) -> None:
        """Serve `waiter` from `start` on; again for one that is served already: it misses frames from there."""
        partition = self._partitions.get(start.partition)
        if partition is None:
            partition = self._partitions[start.partition] = _Partition(self._new_registry(start.partition))
        partition.newcomers.append((waiter, start))
        self._wanted.set()

    def remove(self, waiter: Waiter) -> None:
        """Idempotent."""
        for partition in self._partitions.values():
            partition.registry.remove(waiter)
            if partition.newcomers:
                partition.newcomers = [entry for entry in partition.newcomers if entry[0] is not waiter]
            if waiter in partition.catching_up:
                partition.catching_up.remove(waiter)

    def _new_registry(self, number: int) -> Registry:
        def rescan(waiter: Waiter) -> None:
            """Frames of a resume do not fit: they, or a checkpoint after them, may be a moment back in the log."""
            if not waiter.rescanned:
                waiter.rescanned = True
                metrics.RESCANS.labels("gap").inc()
                self.add(waiter, Start(number, 0))

        return Registry("replay", silence_seconds=self._silence_seconds, on_attach=self._on_attach, on_gap=rescan)

    async def _run(self) -> None:
        while True:
            try:
                consumer, total = await connect(self._options, CHAT_STREAM, client_id=self._client_id)
                try:
                    assign(consumer, [(TopicPartition(CHAT_STREAM, p), 0) for p in range(total)], paused=True)
                    self.is_connected = True
                    self._restart(total)
                    await self._serve(consumer, total)
                finally:
                    self.is_connected = False
                    await stop_consumer(consumer)
            except (KafkaError, OSError) as error:
                await pause(self._client_id, error)
            except Exception as error:  # noqa: BLE001 (whatever it is: without this reader nobody can resume)
                await pause(self._client_id, error, defect=True)

    def _restart(self, total: int) -> None:
        """After a reconnect everybody continues where their partition was."""
        for number, partition in self._partitions.items():
            partition.active = False
            partition.newcomers += [
                (waiter, Start(number, partition.position, exact=True)) for waiter in partition.registry
            ]
        self._drop_unknown(total)

    def _drop_unknown(self, total: int) -> None:
        """Partitions that do not exist: only the store can help those who want them."""
        for number in [number for number in self._partitions if number >= total]:
            for waiter, _ in self._partitions.pop(number).newcomers:
                self._on_trouble(waiter, "lost")

    async def _serve(self, consumer: AIOKafkaConsumer, total: int) -> None:
        while True:
            self._rest(consumer)
            if not self._partitions:
                self._wanted.clear()
                await self._wanted.wait()
            self._drop_unknown(total)
            await self._begin_passes(consumer)
            try:
                batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCH_RECORDS)
            except OffsetOutOfRangeError as error:
                self._lose([tp.partition for tp in error.args[0]])
                continue
            for tp, records in batches.items():
                self._deliver(self._partitions[tp.partition], records)
            for partition in self._partitions.values():
                self._report_caught_up(partition)
            await asyncio.sleep(0)

    def _rest(self, consumer: AIOKafkaConsumer) -> None:
        """Stop reading partitions that nobody wants."""
        for number, partition in list(self._partitions.items()):
            if not partition.registry and not partition.newcomers:
                consumer.pause(TopicPartition(CHAT_STREAM, number))
                del self._partitions[number]

    async def _begin_passes(self, consumer: AIOKafkaConsumer) -> None:
        ready = {
            TopicPartition(CHAT_STREAM, number): partition
            for number, partition in self._partitions.items()
            if partition.newcomers and (not partition.active or partition.position >= partition.goal)
        }
        if not ready:
            return
        begins, ends, rewinds = await asyncio.gather(
            consumer.beginning_offsets(list(ready)), consumer.end_offsets(list(ready)), rewound(consumer, list(ready))
        )
        for tp, partition in ready.items():
            newcomers, partition.newcomers = partition.newcomers, []
            wanted = [partition.position] if partition.active else []
            for waiter, start in newcomers:
                position = start_position(start, begin=begins[tp], end=ends[tp], rewind=rewinds[tp])
                wanted.append(rewinds[tp] if position is None else position)
                partition.registry.remove(waiter)
                partition.registry.add(waiter)
                if waiter.catch_up_until is None:
                    waiter.catch_up_until = ends[tp]
                if position is None:
                    self._on_trouble(waiter, "lost")
                else:
                    partition.catching_up.append(waiter)
            self._seek(consumer, tp, partition, min(wanted))
            partition.goal = ends[tp]

    def _seek(self, consumer: AIOKafkaConsumer, tp: TopicPartition, partition: _Partition, position: int) -> None:
        if not partition.active or position != partition.position:
            consumer.seek(tp, position)
            partition.position = position
            metrics.REPLAY_PASSES.inc()
        if not partition.active:
            partition.active = True
            consumer.resume(tp)

    def _deliver(self, partition: _Partition, records: list[ConsumerRecord]) -> None:
        now = asyncio.get_running_loop().time()
        for record in records:
            if (frame := frame_of(record, "replay")) is not None:
                deliver(partition.registry, frame, reader="replay", now=now)
            partition.position = record.offset + 1

    def _report_caught_up(self, partition: _Partition) -> None:
        if partition.catching_up and partition.position >= partition.goal:
            quiet, partition.catching_up = partition.catching_up, []
            for waiter in quiet:
                if waiter.frames == 0 and not waiter.done:
                    self._on_trouble(waiter, "caught_up")

    def _lose(self, numbers: list[int]) -> None:
        """The log became shorter than where we read: everybody there starts again from a moment ago."""
        for number in numbers:
            if (partition := self._partitions.get(number)) is not None:
                partition.active = False
                partition.newcomers += [(waiter, Start(number, 0)) for waiter in partition.registry]
