"""A consumer without a group that follows partitions of one topic from their end, through outages of the brokers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, UnknownTopicOrPartitionError

from logue_common.consumer import stop_consumer, tune_fetches
from logue_common.topics import MAX_RECORD_BYTES
from logue_gateway import metrics
from logue_gateway.tasks import end

RECONNECT_SECONDS = 0.5
#: A drained partition is noticed this late at most; lower costs idle requests (PITFALLS.md).
FETCH_WAIT_MS = 50
#: Longest wait for records in one go; bounds how late a stop is noticed.
POLL_MS = 1000
#: How far a reader goes back when its position is gone: further back nobody waits for.
REWIND_SECONDS = 10.0

_log = structlog.get_logger(__name__)


async def connect(
    options: dict[str, Any], topic: str, *, client_id: str, fetch_wait_ms: int = FETCH_WAIT_MS
) -> tuple[AIOKafkaConsumer, int]:
    """A started consumer, assigned nothing, and the partition count of `topic`. Raises KafkaError or OSError."""
    consumer = AIOKafkaConsumer(
        **options,
        client_id=client_id,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=fetch_wait_ms,
        max_partition_fetch_bytes=MAX_RECORD_BYTES + 64 * 1024,
    )
    try:
        await consumer.start()
        tune_fetches(consumer)
        await _require(consumer, topic)
        first = TopicPartition(topic, 0)
        assign(consumer, [(first, 0)], paused=True)
        await consumer.beginning_offsets([first])  # waits for the topic's metadata
        return consumer, len(consumer.partitions_for_topic(topic))
    except BaseException:
        await stop_consumer(consumer)
        raise


async def _require(consumer: AIOKafkaConsumer, topic: str) -> None:
    # Asked for by name, a broker might create the topic, with a wrong partition count.
    if topic not in await consumer.topics():
        raise UnknownTopicOrPartitionError(f"Topic {topic} does not exist; `python -m logue_common.topics` creates it.")


def assign(
    consumer: AIOKafkaConsumer, positions: Sequence[tuple[TopicPartition, int]], *, paused: bool = False
) -> None:
    """Assign exactly these partitions at these positions. Without a wait between, so no other position is looked up."""
    consumer.assign([partition for partition, _ in positions])
    for partition, position in positions:
        consumer.seek(partition, position)
        if paused:
            consumer.pause(partition)


async def pause(client_id: str, error: Exception, *, defect: bool = False) -> None:
    """Say why a reader must connect again, and wait a moment before it does."""
    if defect:
        metrics.DEFECTS.labels("reader").inc()
        _log.error("reader_failed", client=client_id, exc_info=error)
    else:
        _log.warning("kafka_unreachable", client=client_id, cause=type(error).__name__, detail=str(error))
    await asyncio.sleep(RECONNECT_SECONDS)


async def rewound(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """For each partition the position REWIND_SECONDS ago, or its end when nothing was written since."""
    since = int((time.time() - REWIND_SECONDS) * 1000)
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, since))
    ends = await consumer.end_offsets(list(partitions))
    return {partition: hit.offset if (hit := found.get(partition)) else ends[partition] for partition in partitions}


class TailReader:
    """Gives every record of the chosen partitions to `on_record`, from the end that the first connection saw.

    `choose` picks partitions by the topic's partition count. After an outage it goes on where it was; where that
    position is gone (retention, or a broker that lost its tail) it goes back REWIND_SECONDS. So `on_record` may see a
    record twice.
    """

    def __init__(
        self,
        options: dict[str, Any],
        topic: str,
        *,
        client_id: str,
        choose: Callable[[int], Sequence[int]],
        on_record: Callable[[ConsumerRecord], None],
        fetch_wait_ms: int = FETCH_WAIT_MS,
    ) -> None:
        self._options = options
        self._topic = topic
        self._client_id = client_id
        self._choose = choose
        self._on_record = on_record
        self._fetch_wait_ms = fetch_wait_ms
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        #: Next offset by partition; empty until the first connection.
        self.positions: dict[int, int] = {}
        #: Partition count of the topic, 0 until it is known.
        self.partition_count = 0

    def open(self) -> None:
        """Begin to connect and read, in the background."""
        self._task = asyncio.create_task(self._run(), name=self._client_id)

    async def close(self) -> None:
        """Stop reading."""
        await end(self._task)

    async def check(self) -> str | None:
        """For /readyz: does the broker answer?"""
        consumer, positions = self._consumer, self.positions
        if consumer is None or not positions:
            return "not connected"
        await consumer.end_offsets([TopicPartition(self._topic, next(iter(positions)))])
        return None

    async def _run(self) -> None:
        while True:
            try:
                consumer, self.partition_count = await connect(
                    self._options, self._topic, client_id=self._client_id, fetch_wait_ms=self._fetch_wait_ms
                )
                try:
                    await self._assign(consumer)
                    self._consumer = consumer
                    await self._read(consumer)
                finally:
                    self._consumer = None
                    await stop_consumer(consumer)
            except (KafkaError, OSError) as error:
                await pause(self._client_id, error)
            except Exception as error:  # noqa: BLE001 (whatever it is: a gateway without its reader is deaf)
                await pause(self._client_id, error, defect=True)

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        chosen = [TopicPartition(self._topic, number) for number in self._choose(self.partition_count)]
        ends = await consumer.end_offsets(chosen)
        self.positions = {tp.partition: self.positions.get(tp.partition, ends[tp]) for tp in chosen}
        assign(consumer, [(tp, self.positions[tp.partition]) for tp in chosen])

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                batches = await consumer.getmany(timeout_ms=POLL_MS)
            except OffsetOutOfRangeError as error:
                await self._rewind(consumer, list(error.args[0]))
                continue
            for tp, records in batches.items():
                for record in records:
                    self.positions[tp.partition] = record.offset + 1
                    self._on_record(record)

    async def _rewind(self, consumer: AIOKafkaConsumer, lost: list[TopicPartition]) -> None:
        for tp, position in (await rewound(consumer, lost)).items():
            _log.warning("position_lost", client=self._client_id, partition=tp.partition, back_to=position)
            self.positions[tp.partition] = position
            consumer.seek(tp, position)
