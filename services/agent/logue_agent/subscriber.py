"""Owns partitions: hands their records on at once, restores before it starts, commits what is finished.

Nothing here waits for a turn. A rebalance gives every partition up for a moment; what comes back goes on untouched
from the position that this process had reached, so that it reads each partition without a break.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import NoReturn

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from logue_agent import metrics
from logue_agent.company import has_company
from logue_agent.context import ContextCache
from logue_agent.lanes import Lanes
from logue_agent.partition import SIDE_TOPICS, OwnedPartition
from logue_agent.positions import start_positions
from logue_agent.records import accept, pass_over
from logue_agent.settings import AgentSettings
from logue_agent.turn import TurnState
from logue_common.clock import utc_now
from logue_common.consumer import CommitWatch, commit, show_lag, stop_consumer, tune_fetches
from logue_common.dead_letters import DeadLetters
from logue_common.errors import StartupError, UnreadableRecordError
from logue_common.metrics import COMMIT_AGE
from logue_common.topics import CHAT_REQUESTED, CO_PARTITIONED, MAX_RECORD_BYTES, check_co_partitioning

_log = structlog.get_logger(__name__)

_FETCH_WAIT_MS = 50
_POLL_MS = 200
_COMMIT_SECONDS = 1.0
_COMMIT_TIMEOUT_SECONDS = 2.0
#: A loop that took so long for a round stood still.
_FROZEN_SECONDS = 4.0
_RECONNECT_SECONDS = 1.0
#: A member learns by heartbeat that the group is rebalanced, and everybody waits for it.
_HEARTBEAT_MS = 500
#: Joining a group may take a session, and then its answer must come.
_ANSWER_MS = 4_000
#: An outcome that was acknowledged shows up in milliseconds; after this long it is written again.
_REPROPOSE_SECONDS = 10.0
#: Between a drain's end here and the start of another attempt elsewhere, unless this agent says that it gave up.
_HAND_OVER_MARGIN_SECONDS = 2.0
#: Fetched and undecided turns, as a multiple of the concurrency, at which fetching requests pauses and goes on.
_PAUSE_AT, _RESUME_AT = 4, 2


class Subscriber(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """The keyed consumer of one agent process."""

    def __init__(self, settings: AgentSettings, lanes: Lanes, cache: ContextCache, dead_letters: DeadLetters) -> None:
        self._settings = settings
        self._lanes = lanes
        self._cache = cache
        self._dead_letters = dead_letters
        self._consumer: AIOKafkaConsumer | None = None
        self._owned: dict[int, OwnedPartition] = {}
        self._restoring: set[int] = set()
        self._restore: asyncio.Task[None] | None = None
        self._progress = asyncio.Event()
        self._generation = 0
        #: The latest attempt at any turn that was let go: it may have been shown, and not be in the log.
        self._latest_attempt = 0
        self._committed: dict[TopicPartition, int] = {}
        #: Contested partitions of which the group was asked already; again with every regular commit.
        self._asked_for: frozenset[int] = frozenset()
        self._watch = CommitWatch()
        self._paused_for_load = False
        #: The log lost its tail under this process: restore from its beginning.
        self._replay = False
        #: Whether that ever happened.
        self.has_reread = False
        self._draining = False
        #: What runs here goes on without the partitions: their next owners wait for it.
        self._handed_over = False
        self._stopping = False

    @property
    def is_member(self) -> bool:
        """True while this process is in the group and has restored what it owns."""
        return self._generation > 0 and not self._restoring

    @property
    def owned_partitions(self) -> frozenset[int]:
        """The partitions that this process owns and has restored or is restoring."""
        return frozenset(self._owned)

    def refresh_metrics(self) -> None:
        """Bring the gauges up to date that are looked at only when somebody asks."""
        owned = self._owned.values()
        depths = [depth for partition in owned for depth in partition.lane_depths]
        turns = [turn for partition in owned for turn in partition.turns.values()]
        metrics.HELD.set(len(turns))
        metrics.LANES.set(len(depths))
        metrics.LANE_DEPTH.set(max(depths, default=0))
        oldest = min((turn.request.requested_at for turn in turns), default=None)
        metrics.OLDEST_TURN.set(0 if oldest is None else max(0.0, (utc_now() - oldest).total_seconds()))
        COMMIT_AGE.set(self._watch.age_seconds if self._owned else 0)
        positions = {
            _tp(CHAT_REQUESTED, number): partition.prefix.next_offset for number, partition in self._owned.items()
        }
        positions |= {_tp(t, number): offset for number, p in self._owned.items() for t, offset in p.positions.items()}
        show_lag(self._consumer, positions)

    async def run(self) -> None:
        """Consume until `stop`. Survives brokers that are away; raises StartupError for topics that do not fit."""
        while not self._stopping:
            try:
                await self._consume()
            except StartupError:
                raise
            except (KafkaError, OSError) as error:
                _log.warning("consumer_restarts", cause=type(error).__name__, detail=str(error))
            finally:
                await self._leave()
            if not self._stopping:
                await asyncio.sleep(_RECONNECT_SECONDS)

    async def stop(self) -> None:
        """Take no more requests, let running turns finish for a while, commit, and leave the group.

        With others in the group it leaves first, so that they answer what comes meanwhile. One that knows of no others
        stays until its turns are over, so that their ends are told.
        """
        self._draining = True
        self._pause_requests(self._owned)
        self._lanes.drain()
        deadline = time.monotonic() + self._settings.agent_drain_seconds
        while time.monotonic() < deadline and not await self._hand_over() and self._has_work():
            await asyncio.sleep(_POLL_MS / 1000)
        await self._commit()
        self._stopping = True
        if self._handed_over:
            while time.monotonic() < deadline and self._lanes.is_busy:
                await asyncio.sleep(_POLL_MS / 1000)
            await self._lanes.give_up()

    async def _hand_over(self) -> bool:
        """True when others will take the partitions, and wait for what runs here."""
        if self._consumer is None or not self._owned or self._restoring:
            return False
        if not await has_company(self._consumer, self._settings.agent_group):
            return False
        # From here on, so that a rebalance meanwhile does not abandon what was promised.
        self._handed_over = True
        seconds = self._settings.agent_drain_seconds + _HAND_OVER_MARGIN_SECONDS
        self._handed_over = await self._lanes.hand_over(utc_now() + timedelta(seconds=seconds))
        return self._handed_over

    def _has_work(self) -> bool:
        """True while a turn is at work here or at its former owner, or its outcome has not come back from the log."""
        turns = (turn for partition in self._owned.values() for turn in partition.turns.values())
        return self._lanes.is_busy or any(turn.proposed is not None or turn.finishes_by is not None for turn in turns)

    # --- the group ---------------------------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        """Everything is given up for a moment: commit, but stop nothing."""
        if self._restore is not None:
            self._restore.cancel()
        await self._commit()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Keep what came back, let go of what is lost, and restore before anything new starts."""
        if self._consumer is None:
            return
        numbers = {tp.partition for tp in assigned if tp.topic == CHAT_REQUESTED}
        self._generation = self._consumer._coordinator.generation  # noqa: SLF001 (no public way; pinned by a test)
        self._committed.clear()
        self._watch.committed()
        lost = set(self._owned) - numbers
        self._let_go(lost)
        for number, partition in self._owned.items():
            self._consumer.seek(_tp(CHAT_REQUESTED, number), partition.prefix.next_offset)
            for topic, offset in partition.positions.items():
                self._consumer.seek(_tp(topic, number), offset)
        self._restoring = set(numbers)
        self._pause_requests(numbers)
        metrics.PARTITIONS.set(len(numbers))
        _log.info("partitions_assigned", generation=self._generation, owned=sorted(numbers), lost=sorted(lost))
        self._restore = asyncio.create_task(self._restore_all(numbers), name="restore")

    async def _restore_all(self, numbers: set[int]) -> None:
        """Let requests flow once everything said so far about them has been read."""
        consumer = self._consumer
        if consumer is None:
            return
        while True:
            try:
                ends = await consumer.end_offsets([_tp(t, number) for number in numbers for t in CO_PARTITIONED])
                for number in sorted(numbers - self._owned.keys()):
                    await self._gain(consumer, number, {t: ends[_tp(t, number)] for t in CO_PARTITIONED})
                break
            except KafkaError as error:
                _log.warning("restore_retries", cause=type(error).__name__)
                await asyncio.sleep(_RECONNECT_SECONDS)
        waiting = {tp: end for tp, end in ends.items() if tp.topic in SIDE_TOPICS}
        while waiting:
            self._progress.clear()
            for tp in list(waiting):
                if await consumer.position(tp) >= waiting[tp]:
                    del waiting[tp]
            if waiting:
                with contextlib.suppress(TimeoutError):  # not wait_for: Python 3.11's may lose a cancellation
                    async with asyncio.timeout(_POLL_MS / 1000):
                        await self._progress.wait()
        self._restoring.clear()
        self._replay = False
        if not self._paused_for_load and not self._draining:
            consumer.resume(*(_tp(CHAT_REQUESTED, number) for number in numbers))
        _log.info("partitions_restored", generation=self._generation)

    async def _gain(self, consumer: AIOKafkaConsumer, number: int, ends: dict[str, int]) -> None:
        """Take a partition over where its last owner's commits end."""
        tps = {topic: _tp(topic, number) for topic in CO_PARTITIONED}
        beginnings = await consumer.beginning_offsets(list(tps.values()))
        committed = {topic: await consumer.committed(tp) for topic, tp in tps.items()}
        if self._replay:
            committed = dict.fromkeys(CO_PARTITIONED)
        start = start_positions(committed, {topic: beginnings[tp] for topic, tp in tps.items()}, ends)
        for topic, tp in tps.items():
            consumer.seek(tp, start[topic])
        self._cache.drop_partition(number)  # what a turn put there that ended late knows nothing of what came since
        sides = {topic: start[topic] for topic in SIDE_TOPICS}
        self._owned[number] = OwnedPartition(number, start[CHAT_REQUESTED], sides, self._next_attempt)

    def _next_attempt(self, known: int) -> int:
        """Larger than every attempt before: generations grow, and so does this when the group was made anew."""
        return max(self._generation, known + 1, self._latest_attempt + 1)

    def _let_go(self, numbers: set[int]) -> None:
        for number in numbers:
            partition = self._owned.pop(number)
            # Those of turns that only waited were shown to nobody, or are in the log.
            begun = [turn.attempt for turn in partition.turns.values() if turn.n or turn.state is not TurnState.WAITING]
            self._latest_attempt = max(self._latest_attempt, *begun, 0)
            if not self._handed_over:
                self._lanes.abandon(list(partition.turns.values()))
            self._cache.drop_partition(number)

    # --- records -----------------------------------------------------------------------------------------------------

    async def _consume(self) -> None:
        session_ms = int(self._settings.agent_session_seconds * 1000)
        options = self._settings.client_options()
        options["request_timeout_ms"] = max(options["request_timeout_ms"], session_ms + _ANSWER_MS)
        self._consumer = consumer = AIOKafkaConsumer(
            **options,
            group_id=self._settings.agent_group,
            client_id=f"logue-agent-{os.getpid()}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=[RangePartitionAssignor],
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=MAX_RECORD_BYTES,
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=_HEARTBEAT_MS,
        )
        await consumer.start()
        tune_fetches(consumer)
        cluster = await consumer._client.fetch_all_metadata()  # noqa: SLF001 (the public way knows own topics only)
        check_co_partitioning({topic: len(cluster.partitions_for_topic(topic) or ()) for topic in CO_PARTITIONED})
        consumer.subscribe(CO_PARTITIONED, listener=self)
        self._watch.committed()
        committed_at = time.monotonic()
        while not self._stopping:
            batches = await consumer.getmany(timeout_ms=_POLL_MS)
            await self._take(batches)
            self._progress.set()
            self._adapt_to_load()
            since = time.monotonic() - committed_at
            if since > _COMMIT_SECONDS or self._contested() - self._asked_for:
                committed_at = time.monotonic()
                await self._notice_caught_up(consumer)
                # Else the log may have news that were not read.
                if _COMMIT_SECONDS < since < _FROZEN_SECONDS and not self._restoring:
                    await self._begin_overdue()
                await self._commit_and_confirm()
                if self._owned:
                    self._watch.require_member()

    async def _take(self, batches: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        # As of now: what is restored while this waits for something begins at positions of its own.
        mine = {tp: self._owned.get(tp.partition) for tp in batches}
        self._give_back(batches)
        generation = self._generation
        # Requests first, so that what is said about them finds them.
        for tp in sorted(batches, key=lambda tp: tp.topic != CHAT_REQUESTED):
            partition = mine[tp]
            for record in batches[tp]:
                if partition is None or not self._has(partition, generation):
                    break  # not restored yet, or fetched again, or lost
                try:
                    actions = accept(partition, record)
                except UnreadableRecordError as error:
                    await self._bury_unreadable(record, error)
                    if not self._has(partition, generation):
                        break
                    actions = pass_over(partition, record)
                await self._lanes.perform(actions)
                if partition.mismatched:
                    partition.mismatched = False
                    await self._mismatched(record)
                if partition.rewound:
                    self._read_again(tp.partition)

    def _has(self, partition: OwnedPartition, generation: int) -> bool:
        """True while nothing was given out anew since `generation`."""
        return self._generation == generation and self._owned.get(partition.number) is partition

    def _read_again(self, number: int) -> NoReturn:
        """Restore everything from the beginning of the log."""
        self._replay = self.has_reread = True
        raise KafkaError(f"partition {number} lost its tail; reading the log again from its beginning")

    def _give_back(self, batches: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        """Records of partitions whose positions the restore task has not read yet are read again later."""
        if self._consumer is None:
            return
        assigned = self._consumer.assignment()
        for tp, records in batches.items():
            if tp.partition not in self._owned and tp in assigned:
                self._consumer.seek(tp, records[0].offset)

    async def _bury_unreadable(self, record: ConsumerRecord, error: UnreadableRecordError) -> None:
        _log.error("unreadable_record", topic=record.topic, partition=record.partition, offset=record.offset)
        metrics.DEAD_LETTERS.labels(record.topic).inc()
        await self._dead_letters.bury(record, error_class="unreadable", text=str(error))

    async def _mismatched(self, record: ConsumerRecord) -> None:
        """Bury a record that does not fit what is known of its turn or conversation."""
        _log.error("isolation_mismatch", topic=record.topic, partition=record.partition, offset=record.offset)
        metrics.ISOLATION.inc()
        metrics.DEAD_LETTERS.labels(record.topic).inc()
        text = "The record and another of its turn or lane name different users or conversations."
        await self._dead_letters.bury(record, error_class="isolation", text=text)

    def _adapt_to_load(self) -> None:
        held = sum(len(partition.turns) for partition in self._owned.values())
        limit = self._settings.agent_concurrency
        if not self._paused_for_load and held > limit * _PAUSE_AT:
            self._paused_for_load = True
            self._pause_requests(self._owned)
        elif self._paused_for_load and not self._draining and held < limit * _RESUME_AT:
            self._paused_for_load = False
            if self._consumer is not None and not self._restoring:
                requests = {_tp(CHAT_REQUESTED, number) for number in self._owned}
                self._consumer.resume(*(requests & self._consumer.assignment()))

    def _pause_requests(self, numbers: Iterable[int]) -> None:
        if self._consumer is not None:
            assigned = self._consumer.assignment()
            requests = {_tp(CHAT_REQUESTED, number) for number in numbers}
            self._consumer.pause(*(requests & assigned))

    async def _notice_caught_up(self, consumer: AIOKafkaConsumer) -> None:
        now = time.monotonic()
        loop_now = asyncio.get_running_loop().time()
        is_paused = self._paused_for_load or self._draining  # then the known end is an old one
        for number, partition in list(self._owned.items()):
            requests = _tp(CHAT_REQUESTED, number)
            end = consumer.highwater(requests) if requests in consumer.assignment() else None
            if number not in self._restoring and end is not None:
                if partition.prefix.next_offset > end and await self._is_beyond_the_log(consumer, partition):
                    self._read_again(number)
                if partition.prefix.next_offset == end and not is_paused:
                    partition.caught_up(now)
            for turn in partition.stuck(loop_now - _REPROPOSE_SECONDS):
                self._lanes.propose_again(turn)

    async def _is_beyond_the_log(self, consumer: AIOKafkaConsumer, partition: OwnedPartition) -> bool:
        """Ask the broker: what a fetch says of the end may be old where the partition has a new leader (KIP-207)."""
        requests, generation = _tp(CHAT_REQUESTED, partition.number), self._generation
        try:
            ends = await consumer.end_offsets([requests])
        except KafkaError:
            return False
        return self._has(partition, generation) and partition.prefix.next_offset > ends[requests]

    async def _begin_overdue(self) -> None:
        for partition in list(self._owned.values()):
            await self._lanes.perform(partition.overdue(utc_now(), time.monotonic()))

    def _contested(self) -> frozenset[int]:
        """Partitions in which another process has begun what is here; a restore may bring its outcome."""
        return frozenset(n for n, partition in self._owned.items() if partition.contested and n not in self._restoring)

    # --- commits -----------------------------------------------------------------------------------------------------

    async def _commit_and_confirm(self) -> None:
        """Commit; where partitions are contested, go on if the group takes that.

        One that is cut off from its group alone would outbid its successor at every turn otherwise, and be outbid.
        """
        contested = self._asked_for = self._contested()
        if contested:
            self._committed.clear()
        generation, partitions = self._generation, [self._owned[number] for number in contested]
        # A commit speaks for the generation that was joined last, which may not have given its partitions out yet.
        is_current = self._consumer is not None and self._consumer._coordinator.generation == generation  # noqa: SLF001
        if await self._commit() and is_current:
            self._asked_for = frozenset()
            for partition in partitions:
                if self._has(partition, generation):
                    await self._lanes.perform(partition.confirmed())

    async def _commit(self) -> bool:
        """Commit what is finished, if that moved; True when the group took that. What fails is repeated next time."""
        if self._watch.is_due:
            self._committed.clear()
        moved: dict[TopicPartition, int] = {}
        for number, partition in self._owned.items():
            requested, positions = partition.commit_point()
            offsets = {_tp(topic, number): offset for topic, offset in positions.items()}
            offsets[_tp(CHAT_REQUESTED, number)] = requested
            # All four or none, so that a commit that comes late is an old one, and not half of two.
            if any(self._committed.get(tp) != offset for tp, offset in offsets.items()):
                moved |= offsets
        if not moved or self._consumer is None:
            return False
        try:
            await asyncio.wait_for(commit(self._consumer, moved), _COMMIT_TIMEOUT_SECONDS)
        except (KafkaError, TimeoutError) as error:
            _log.info("commit_postponed", cause=type(error).__name__)
            return False
        self._committed.update(moved)
        self._watch.committed()
        return True

    async def _leave(self) -> None:
        if self._restore is not None:
            self._restore.cancel()
            self._restore = None
        consumer, self._consumer = self._consumer, None
        self._let_go(set(self._owned))  # before the group gives them to others
        self._generation = 0
        self._restoring.clear()
        if consumer is not None:
            await stop_consumer(consumer)


def _tp(topic: str, number: int) -> TopicPartition:
    return TopicPartition(topic, number)
