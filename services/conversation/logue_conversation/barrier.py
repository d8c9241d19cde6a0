"""Reading what was just written: waits until the writer has passed the log's end as it was on arrival.

The writers of all replicas say in `log_positions` how far they are; one task per process reads that while anyone waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from aiokafka.structs import TopicPartition
from sqlalchemy import select

from logue_common.topics import CHAT_REPLIED, CHAT_REQUESTED, partition_of
from logue_conversation import metrics
from logue_conversation.database import Database
from logue_conversation.errors import LogUnavailableError, StoreUnavailableError
from logue_conversation.log_ends import LogEnds
from logue_conversation.tables import log_positions

#: As long as a reader waits at most (DESIGN.md, "Reading what was just written").
WAIT_SECONDS = 2.0
_POLL_SECONDS = 0.02
_POSITIONS = select(log_positions.c.topic, log_positions.c.partition, log_positions.c.next_offset)

Positions = Mapping[TopicPartition, int]


def has_passed(positions: Positions, targets: Positions) -> bool:
    """True when every target is reached; a partition that nobody wrote to needs no position."""
    return all(positions.get(partition, 0) >= end for partition, end in targets.items())


class PositionWatch:
    """How far the writers are. Concurrent waiters share their look-ups."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looking: asyncio.Task[Positions] | None = None

    async def now(self) -> Positions:
        """The positions as they are; the look-up starts after this call."""
        running = self._looking
        if running is not None and not running.done():
            await asyncio.wait({running})  # began before we came: what it saw may be too old
        if self._looking is None or self._looking is running or self._looking.done():
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(_retrieve)
        return await asyncio.shield(self._looking)

    async def wait_passed(self, targets: Positions, seconds: float) -> bool:
        """Wait until the targets are passed; False when they are not after `seconds`."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not has_passed(await self.now(), targets):
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    async def _look(self) -> Positions:
        rows = await self._database.as_nobody(lambda connection: connection.execute(_POSITIONS))
        return {TopicPartition(row.topic, row.partition): row.next_offset for row in rows}


def _retrieve(look: asyncio.Task[Positions]) -> None:
    if not look.cancelled():
        look.exception()  # every waiter may be gone


class Barrier:
    """What a reader does before it calls an id unknown."""

    def __init__(self, ends: LogEnds, watch: PositionWatch) -> None:
        self._ends = ends
        self._watch = watch

    async def everything_requested(self) -> None:
        """Wait until every request that is in the log now is stored. See `_wait` for what it raises."""
        count = await self._ends.partitions()
        await self._wait(TopicPartition(CHAT_REQUESTED, partition) for partition in range(count))

    async def requests_of(self, conversation_id: str) -> None:
        """The same for the requests of one conversation."""
        await self._wait(await self._partitions_of(conversation_id, CHAT_REQUESTED))

    async def everything_of(self, conversation_id: str) -> None:
        """The same for requests and outcomes of one conversation."""
        await self._wait(await self._partitions_of(conversation_id, CHAT_REQUESTED, CHAT_REPLIED))

    async def _partitions_of(self, conversation_id: str, *topics: str) -> list[TopicPartition]:
        partition = partition_of(conversation_id, await self._ends.partitions())
        return [TopicPartition(topic, partition) for topic in topics]

    async def _wait(self, partitions: Iterable[TopicPartition]) -> None:
        """Raises LogUnavailableError or StoreUnavailableError when it cannot be known whether the id exists."""
        try:
            targets = await self._ends.ends(partitions)
        except LogUnavailableError:
            metrics.BARRIER.labels("log_unavailable").inc()
            raise
        if not await self._watch.wait_passed(targets, WAIT_SECONDS):
            metrics.BARRIER.labels("behind").inc()
            raise StoreUnavailableError("The writer has not caught up with the log yet.")
        metrics.BARRIER.labels("passed").inc()
