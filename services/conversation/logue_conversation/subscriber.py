"""The writer's consumer: drain, decode, store, commit. Nothing is committed before it is stored or in chat.dlq."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import TopicPartition

from logue_common.consumer import CommitWatch, commit, show_lag, stop_consumer, tune_fetches
from logue_common.dead_letters import DeadLetters, Record
from logue_common.events import ChatReplied
from logue_common.metrics import COMMIT_AGE
from logue_common.settings import SESSION_SECONDS
from logue_common.tracing import exemplar_of
from logue_conversation import metrics
from logue_conversation.backlog import Backlog
from logue_conversation.batch_trace import batch_span
from logue_conversation.batches import TOPICS, Batch, Decoded, decode_poll
from logue_conversation.errors import DataRejectedError, InterruptedWorkError, StoreUnavailableError
from logue_conversation.news import News
from logue_conversation.projection import Change
from logue_conversation.tables import ISOLATION_CONSTRAINT
from logue_conversation.telling import Teller
from logue_conversation.writer import Writer

T = TypeVar("T")

GROUP = "logue-conversation"

UNREADABLE = "unreadable"
ISOLATION = "isolation"

_POLL_MS = 200
#: A drained partition waits this long at the broker before an empty answer; batches are gathered anyhow.
_FETCH_WAIT_MS = 250
#: A batch costs what its ten statements cost, whatever is in it. So while records keep coming, batches begin this far
#: apart, and less while somebody waits for one; what comes after a pause is stored at once.
_BATCH_SECONDS = 0.1
_HURRIED_BATCH_SECONDS = 0.015
_RECONNECT_SECONDS = 1.0
_FIRST_RETRY_SECONDS = 0.1
_LONGEST_RETRY_SECONDS = 5.0
_COMMIT_SECONDS = 5.0
#: How long the batch in hand may take once the process was asked to end.
_STOP_SECONDS = 5.0
#: How long everything may take then.
_STOP_LIMIT_SECONDS = 15.0
#: Time to learn the position of a partition that has no record for us.
_POSITION_SECONDS = 0.5
#: Between two assertions of all positions; well below what a reader is willing to wait.
_ASSERT_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class Subscriber:
    """Runs until `stop`. Survives brokers and database being away for any time."""

    def __init__(
        self,
        client_options: dict[str, Any],
        writer: Writer,
        teller: Teller,
        dead_letters: DeadLetters,
        *,
        batch_records: int,
        news: News,
    ) -> None:
        self._options = client_options
        self._writer = writer
        self._teller = teller
        self._dead_letters = dead_letters
        self._batch_records = batch_records
        self._news = news
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._in_group = False
        self._assert_at = 0.0
        #: Loop time at which the last batch began, unless it was so large that there may be more.
        self._began = float("-inf")
        self._hurry_until = float("-inf")
        self._watch = CommitWatch()
        #: The next offset of every partition of which something was stored.
        self._stored_positions: dict[TopicPartition, int] = {}
        self._consumer: AIOKafkaConsumer | None = None
        #: Partitions whose position was asked for since they were assigned; the store knows it, if it could be had.
        self._positioned: set[TopicPartition] = set()
        self._backlog = Backlog()
        #: In a rebalance the consumer still names its partitions, and where it was: beyond records that were let go.
        self._holds_partitions = False
        self._revocations = 0
        self.trouble: str | None = "not connected to Kafka yet"

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="writer")

    def refresh_metrics(self) -> None:
        """Bring the gauges up to date that are looked at only when somebody asks."""
        COMMIT_AGE.set(self._watch.age_seconds if self._in_group else 0)
        show_lag(self._consumer, self._stored_positions)

    async def stop(self) -> None:
        """Finish the batch in hand (a few seconds at most), commit, leave the group."""
        self._stopping.set()
        self._news.hurry()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_STOP_LIMIT_SECONDS)
            if not self._task.done():  # aiokafka waits for partitions that a group without its broker never gives out
                _log.warning("writer_not_stopped")
                self._task.cancel()
                await asyncio.wait({self._task})

    async def _run(self) -> None:
        while not self._stopping.is_set():
            consumer = AIOKafkaConsumer(
                **self._options,
                client_id=f"logue-conversation-{os.getpid()}",
                group_id=GROUP,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                # So a conversation's records of all topics come to one member.
                partition_assignment_strategy=[RangePartitionAssignor],
                fetch_max_wait_ms=_FETCH_WAIT_MS,
                session_timeout_ms=int(SESSION_SECONDS * 1000),
            )
            try:
                self._in_group = self._holds_partitions = False
                consumer.subscribe(TOPICS, listener=_Rebalances(self._revoked, self._joined))
                await consumer.start()
                tune_fetches(consumer)
                self._positioned.clear()
                self._backlog.clear()
                self._consumer = consumer
                await self._consume(consumer)
            except InterruptedWorkError:
                break
            except (KafkaError, OSError) as error:
                self.trouble = f"Kafka: {type(error).__name__}"
                _log.warning("writer_reconnects", cause=type(error).__name__)
                await self._pause(_RECONNECT_SECONDS)
            except Exception:  # noqa: BLE001 (a defect: say so, and go on from the committed offsets)
                self.trouble = "the writer failed; see its log"
                _log.exception("writer_failed")
                await self._pause(_RECONNECT_SECONDS)
            finally:
                self._consumer = None
                await stop_consumer(consumer)

    async def _consume(self, consumer: AIOKafkaConsumer) -> None:
        while not self._stopping.is_set():
            await self._fetch(consumer)
            self._positioned &= consumer.assignment()
            if self._backlog:
                await self._store(consumer, decode_poll(self._backlog.take(self._batch_records)))
            await self._assert_positions(consumer)
            # Without a partition too, where there are more replicas than partitions: this one still answers.
            self.trouble = None if self._in_group else "has not joined its group yet"

    async def _fetch(self, consumer: AIOKafkaConsumer) -> None:
        if not self._backlog:
            await self._gather()
            self._backlog.add(await consumer.getmany(timeout_ms=_POLL_MS, max_records=self._batch_records))
            if len(self._backlog) < self._batch_records:
                return  # nothing else has been fetched
        await self._backlog.refill(consumer, max(1, self._batch_records // 4))

    async def _gather(self) -> None:
        """Wait until the next batch may begin, or somebody waits for it; then gather nothing for a moment."""
        loop = asyncio.get_running_loop()
        wait = self._began + _BATCH_SECONDS - loop.time()
        if wait > 0 and loop.time() >= self._hurry_until:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.awaited.wait(), wait)
        if self._news.awaited.is_set():
            self._news.awaited.clear()
            self._hurry_until = loop.time() + _BATCH_SECONDS
        wait = self._began + _HURRIED_BATCH_SECONDS - loop.time()
        if wait > 0:
            await self._pause(wait)

    def _revoked(self) -> None:
        self._holds_partitions = False
        self._revocations += 1
        self._backlog.clear()

    def _joined(self) -> None:
        self._in_group = self._holds_partitions = True
        self._watch.committed()
        # Whoever had the partitions meanwhile may have gone on, or the log may be another one.
        self._positioned.clear()

    async def _store(self, consumer: AIOKafkaConsumer, decoded: Decoded) -> None:
        is_large = len(decoded.batch.events) >= self._batch_records // 2
        self._began = float("-inf") if is_large else asyncio.get_running_loop().time()
        for record, error in decoded.unreadable:
            await self._bury(record, UNREADABLE, str(error))
        metrics.IGNORED.labels("unknown_type").inc(decoded.unknown)
        with batch_span(GROUP, len(decoded.batch.events), decoded.traced):
            changes = await self._bisect(consumer, decoded, decoded.batch)
            await self._until_done(consumer, lambda: self._teller.tell(changes))
        _report(decoded)
        await self._commit(consumer, decoded.batch.positions)
        self._stored_positions |= decoded.batch.positions
        self._positioned |= decoded.batch.positions.keys()

    async def _bisect(
        self, consumer: AIOKafkaConsumer, decoded: Decoded, batch: Batch, *, is_second_try: bool = False
    ) -> list[Change]:
        """Store the batch; when its data is refused, find the record that is to blame. What is to be told of it."""
        try:
            changes = await self._until_done(consumer, lambda: self._writer.store(batch))
        except DataRejectedError as error:
            if len(batch.events) > 1:
                return [change for half in batch.halves() for change in await self._bisect(consumer, decoded, half)]
            if not batch.events:
                raise
            if not is_second_try:
                # Of two writers that make one conversation at the same moment, PostgreSQL may refuse one: `ON CONFLICT`
                # spares it one unique index, and this table has two. Now it finds the other's row.
                return await self._bisect(consumer, decoded, batch, is_second_try=True)
            await self._bury(decoded.record_of(batch.events[0]), _class_of(error), str(error))
            return await self._bisect(consumer, decoded, batch.without_events())
        self._news.stored({logged.event.conversation_id for logged in batch.events})
        return changes

    async def _bury(self, record: Record, error_class: str, text: str) -> None:
        metrics.DEAD_LETTERS.labels(error_class).inc()
        if error_class == ISOLATION:
            metrics.ISOLATION.inc()
        place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        _log.error("record_buried", **place, error_class=error_class)
        await self._dead_letters.bury(record, error_class=error_class, text=text)

    async def _until_done(self, consumer: AIOKafkaConsumer, work: Callable[[], Awaitable[T]]) -> T:
        """Try `work` until it is done, and stay in the group. Raises DataRejectedError, or InterruptedWorkError."""
        patience = _STOP_SECONDS
        delays = _backoff()
        while True:
            try:
                return await work()
            except StoreUnavailableError as error:
                delay = next(delays)
                metrics.STORE_RETRIES.inc()
                self.trouble = str(error)
                _log.warning("writer_retries", cause=str(error), delay_seconds=delay)
            if self._stopping.is_set():
                patience -= delay
                if patience <= 0:
                    raise InterruptedWorkError("The store was away until the end.")
                await asyncio.sleep(delay)
            else:
                await self._stay_in_group(consumer, delay)

    async def _stay_in_group(self, consumer: AIOKafkaConsumer, seconds: float) -> None:
        """Wait, polling with everything paused; what comes all the same (after a rebalance) is kept for later."""
        await self._pause(seconds)
        assignment = consumer.assignment()
        consumer.pause(*assignment)
        try:
            polled = await consumer.getmany(timeout_ms=0)
            if polled:
                self._backlog.add(polled)
        finally:
            consumer.resume(*(assignment & consumer.assignment()))

    async def _assert_positions(self, consumer: AIOKafkaConsumer) -> None:
        """Say where the writer stands in each of its partitions, also in those that have nothing for it.

        Otherwise nobody could tell an empty partition from one that was never read. Repeated, because the position in
        the store may be wrong: a former owner's last batch may have set it back, or the broker may have lost its tail.
        """
        assigned, revocations = consumer.assignment(), self._revocations
        is_due = asyncio.get_running_loop().time() >= self._assert_at
        if not self._holds_partitions or not assigned or not (is_due or assigned - self._positioned):
            return
        consumed = await asyncio.gather(*(_position(consumer, partition) for partition in assigned))
        if revocations != self._revocations:
            return  # what had been fetched and not stored is gone from the backlog, so these positions are too far
        positions = {
            partition: self._backlog.begins_at(partition, position)
            for partition, position in zip(assigned, consumed, strict=True)
            if position is not None  # a broker is away; the others' are wanted all the same
        }
        await self._until_done(consumer, lambda: self._writer.store(Batch([], positions)))
        self._stored_positions |= positions
        self._positioned |= assigned
        self._assert_at = asyncio.get_running_loop().time() + _ASSERT_SECONDS
        if self._watch.is_due:
            await self._commit(consumer, positions)

    async def _commit(self, consumer: AIOKafkaConsumer, positions: dict[TopicPartition, int]) -> None:
        mine = consumer.assignment()
        offsets = {partition: offset for partition, offset in positions.items() if partition in mine}
        if not offsets:
            return
        try:
            await asyncio.wait_for(commit(consumer, offsets), _COMMIT_SECONDS)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            # The partitions moved: whoever has them stores the same records again, which changes nothing.
            _log.info("commit_refused", cause=type(error).__name__)
            self._watch.require_member()
        else:
            self._watch.committed()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]
    """Tells when the group takes this member's partitions, and when it has given it some."""

    def __init__(self, revoked: Callable[[], None], joined: Callable[[], None]) -> None:
        self._revoked = revoked
        self._joined = joined

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # noqa: ARG002
        """A batch in hand is stored all the same, and stored again by the next owner; the rest is fetched again."""
        self._revoked()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:  # noqa: ARG002
        """Also called with no partition."""
        self._joined()


async def _position(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int | None:
    """The offset that the consumer reads next; None when that cannot be learnt now."""
    try:
        return int(await asyncio.wait_for(consumer.position(partition), _POSITION_SECONDS))
    except (TimeoutError, IllegalStateError):
        return None


def _report(decoded: Decoded) -> None:
    """What metrics and the log say of a batch that is stored."""
    now = time.time()
    exemplars = {id(each.logged): exemplar_of(each.traceparent) for each in decoded.traced}
    for logged, record in zip(decoded.batch.events, decoded.records, strict=True):
        delay = max(0.0, now - record.timestamp / 1000)
        metrics.PERSISTENCE_DELAY_SECONDS.observe(delay, exemplars.get(id(logged)))
        event = logged.event
        if isinstance(event, ChatReplied):
            _log.info(
                "outcome_stored",
                correlation_id=event.turn_id,
                user_id=event.user_id,
                conversation_id=event.conversation_id,
                status=event.status,
                delay_seconds=round(delay, 4),
            )


def _class_of(error: DataRejectedError) -> str:
    """`isolation` for a conversation that is another user's, else the SQLSTATE."""
    return ISOLATION if error.constraint == ISOLATION_CONSTRAINT else f"sqlstate_{error.sqlstate}"


def _backoff() -> Iterator[float]:
    delay = _FIRST_RETRY_SECONDS
    while True:
        yield delay
        delay = min(delay * 2, _LONGEST_RETRY_SECONDS)
