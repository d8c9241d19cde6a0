"""Records that were fetched and not stored yet, given out in the order in which they happened."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from logue_common.dead_letters import Record

#: What was fetched so long ago is taken first, whatever its timestamps say.
_LONGEST_WAIT_MS = 5_000


class Backlog:
    """Puts in order what a poll brings partition by partition.

    After a pause there is more than one batch takes. Without this, a batch would have the requests of some turns and
    the outcomes of others, and each turn would be stored three times.
    """

    def __init__(self) -> None:
        self._records: dict[TopicPartition, deque[Record]] = {}
        #: When the first of them was.
        self._fetched_at: dict[TopicPartition, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._records.values()))

    @property
    def partitions(self) -> set[TopicPartition]:
        """Those of which something is here."""
        return set(self._records)

    def begins_at(self, partition: TopicPartition, consumed: int) -> int:
        """The offset of the first record here, or where the consumer is: all below was taken."""
        records = self._records.get(partition)
        return records[0].offset if records else consumed

    def add(self, polled: Mapping[TopicPartition, Sequence[Record]]) -> None:
        """Keep what a poll of the consumer brought."""
        for partition, records in polled.items():
            if records:
                self._records.setdefault(partition, deque()).extend(records)
                self._fetched_at.setdefault(partition, _now())

    async def refill(self, consumer: AIOKafkaConsumer, records: int) -> None:
        """Up to so many records of each partition of which nothing is left here, as far as they have been fetched."""
        for partition in consumer.assignment() - self.partitions:
            self.add(await consumer.getmany(partition, max_records=records))
            await asyncio.sleep(0)  # unpacking takes its time, and others wait

    def take(self, limit: int) -> dict[TopicPartition, list[Record]]:
        """Up to `limit` records, the oldest of all partitions, each partition in its own order."""
        taken: dict[TopicPartition, list[Record]] = {}
        overdue = _now() - _LONGEST_WAIT_MS

        def place(partition: TopicPartition) -> tuple[int, TopicPartition]:
            # Clocks differ: one that is ahead must not keep its records here for ever, one that is behind no others.
            fetched_at = self._fetched_at[partition]
            is_overdue = fetched_at < overdue
            return 0 if is_overdue else min(self._records[partition][0].timestamp, fetched_at), partition

        heads = [place(partition) for partition in self._records]
        heapq.heapify(heads)
        for _ in range(limit):
            if not heads:
                break
            _, partition = heads[0]
            records = self._records[partition]
            taken.setdefault(partition, []).append(records.popleft())
            if records:
                heapq.heapreplace(heads, place(partition))
            else:
                del self._records[partition], self._fetched_at[partition]
                heapq.heappop(heads)
        return taken

    def clear(self) -> None:
        """Forget everything: it will be fetched again."""
        self._records.clear()
        self._fetched_at.clear()


def _now() -> int:
    return time.time_ns() // 1_000_000
