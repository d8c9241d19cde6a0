"""Fails turns that the log no longer holds, through the log: nobody else will ever give them an outcome.

It must never come before a true outcome. A turn is gone when its request is below the log's start, beyond its end (a
lost tail), or below what the agents have committed; they commit a request only after its outcome is in chat.replied.
So after that look, everything in chat.replied up to its end now is awaited in the store, and only a turn that then
still has no outcome is failed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from logue_common.clock import Clock
from logue_common.errors import LogueError, problem
from logue_common.events import ChatReplied, encode, event_headers
from logue_common.producer import Producer
from logue_common.topics import CHAT_REPLIED, CHAT_REQUESTED, partition_of
from logue_conversation import metrics
from logue_conversation.barrier import PositionWatch
from logue_conversation.bulk import arrays, rows_of
from logue_conversation.database import Database
from logue_conversation.log_ends import LogEnds
from logue_conversation.outbox import SOURCE
from logue_conversation.tables import turns

AGENT_GROUP = "logue-agent"

#: Turns of one search.
_BATCH = 500
#: How long one search waits for the writer; then the next search tries again.
_WRITER_SECONDS = 10.0
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtext('logue.reconciler'))")

_CANDIDATE = (
    turns.c.user_id,
    turns.c.id,
    turns.c.conversation_id,
    turns.c.request_partition,
    turns.c.latest_request_offset,
    turns.c.user_message_id,
    turns.c.parent_id,
    turns.c.model,
    turns.c.started_at,
)
# The policy of this role shows live turns only.
# In any order: many that wait behind an agent that is away must not hide one that is lost.
_OLD = select(*_CANDIDATE).order_by(func.random()).limit(_BATCH)
_KEY = [turns.c.user_id, turns.c.id]
_keys = rows_of(_KEY)
_STILL_LIVE = select(turns.c.user_id, turns.c.id, turns.c.latest_request_offset).join(
    _keys, (turns.c.user_id == _keys.c.user_id) & (turns.c.id == _keys.c.id)
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A turn that has had no outcome for long. No offset: its request is not stored."""

    user_id: str
    id: str
    conversation_id: str
    partition: int | None
    offset: int | None
    user_message_id: str | None
    parent_id: str | None
    model: str | None
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class RequestLog:
    """A partition of chat.requested: what it holds, what the agents are done with, what the writer has stored."""

    start: int
    end: int
    agents_committed: int
    stored: int


def is_gone(offset: int | None, log: RequestLog) -> bool:
    """True when no agent will ever take the request at `offset` any more."""
    if offset is None:
        # Only an attempt is known. When the writer has read all requests, this one is not among them.
        return log.stored >= log.end
    return offset < log.start or offset >= log.end or offset < log.agents_committed


def lost_outcome(turn: Candidate, now: datetime) -> ChatReplied:
    """What the log is told about a lost turn."""
    return ChatReplied(
        user_id=turn.user_id,
        conversation_id=turn.conversation_id,
        turn_id=turn.id,
        status="failed",
        attempt=0,
        n=1,
        user_message_id=turn.user_message_id,
        parent_id=turn.parent_id,
        model=turn.model,
        error=problem(
            "turn_lost", "This message got lost before it was answered. Send it again.", correlation_id=turn.id
        ),
        started_at=turn.started_at,
        finished_at=now,
    )


class Reconciler:
    """Searches now and then, until `stop`. One replica at a time."""

    def __init__(
        self,
        database: Database,
        ends: LogEnds,
        watch: PositionWatch,
        producer: Producer,
        clock: Clock,
        *,
        lost_after_seconds: float,
        interval_seconds: float,
        writer_seconds: float = _WRITER_SECONDS,
    ) -> None:
        self._database = database
        self._ends = ends
        self._watch = watch
        self._producer = producer
        self._clock = clock
        self._lost_after = timedelta(seconds=lost_after_seconds)
        self._interval_seconds = interval_seconds
        self._writer_seconds = writer_seconds
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="reconciler")

    async def stop(self) -> None:
        """End; a search under way is given up."""
        self._stopping.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def search(self) -> int:
        """One search; the number of turns that were failed."""
        return await self._database.as_nobody(self._search)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._interval_seconds)
            try:
                await self.search()
            except (LogueError, KafkaError) as error:
                metrics.RECONCILE_FAILURES.inc()
                _log.warning("reconciler_waits", cause=str(error) or type(error).__name__)

    async def _search(self, connection: AsyncConnection) -> int:
        if not await connection.scalar(_TRY_LOCK):
            return 0
        limit = self._clock() - self._lost_after
        since = func.coalesce(turns.c.started_at, turns.c.requested_at)
        old = [Candidate(*row) for row in await connection.execute(_OLD.where(since < limit))]
        if not old:
            return 0
        gone = await self._gone(old)
        if not gone:
            return 0
        replied = {TopicPartition(CHAT_REPLIED, partition) for partition in gone.values()}
        if not await self._watch.wait_passed(await self._ends.ends(replied), self._writer_seconds):
            return 0
        keys = [(turn.user_id, turn.id) for turn in gone]
        found = await connection.execute(_STILL_LIVE, arrays(_KEY, keys))
        live = {(row.user_id, row.id, row.latest_request_offset) for row in found}
        # Not one whose request was stored since it was read: that one is in the log.
        lost = [turn for turn in gone if (turn.user_id, turn.id, turn.offset) in live]
        for turn in lost:
            await self._fail(turn)
        return len(lost)

    async def _gone(self, old: Iterable[Candidate]) -> dict[Candidate, int]:
        """Those that the log no longer holds, with their partition."""
        count = await self._ends.partitions()
        partition_of_turn = {turn: partition_of(turn.conversation_id, count) for turn in old}
        wanted = {TopicPartition(CHAT_REQUESTED, partition) for partition in partition_of_turn.values()}
        starts = await self._ends.starts(wanted)
        ends = await self._ends.ends(wanted)
        committed = await self._ends.committed(AGENT_GROUP, wanted)
        stored = await self._watch.now()
        logs = {p.partition: RequestLog(starts[p], ends[p], committed.get(p, 0), stored.get(p, 0)) for p in wanted}
        return {
            turn: partition for turn, partition in partition_of_turn.items() if is_gone(turn.offset, logs[partition])
        }

    async def _fail(self, turn: Candidate) -> None:
        now = self._clock()
        outcome = lost_outcome(turn, now)
        headers: Any = event_headers(outcome, source=SOURCE, at=now)
        await self._producer.send(CHAT_REPLIED, key=turn.conversation_id, value=encode(outcome), headers=headers)
        metrics.LOST_TURNS.inc()
        _log.error("turn_lost", correlation_id=turn.id, user_id=turn.user_id, conversation_id=turn.conversation_id)
