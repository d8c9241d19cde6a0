"""What the subscriber does with partitions that go and come back, and what it remembers of turns that it let go."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from tests.unit.agent.events import cancelled, requested, started

from logue_agent import subscriber as subscriber_module
from logue_agent.actions import Run
from logue_agent.partition import SIDE_TOPICS, OwnedPartition
from logue_agent.subscriber import Subscriber
from logue_common.topics import CHAT_CANCELS, CHAT_REPLIED, CHAT_REQUESTED

REQUESTS = TopicPartition(CHAT_REQUESTED, 0)


class DeadLetters:
    """While a record is buried, `meanwhile` happens."""

    def __init__(self) -> None:
        self.meanwhile = lambda: None

    async def bury(self, record: Any, *, error_class: str, text: str) -> None:
        self.meanwhile()


class Consumer:
    """Stands at the end that its last fetch told; the broker may know better."""

    def __init__(self, *, fetched_end: int, end: int) -> None:
        self._fetched_end = fetched_end
        self._coordinator = SimpleNamespace(generation=1)
        self._end = end

    def assignment(self) -> set[TopicPartition]:
        return {REQUESTS}

    def highwater(self, partition: TopicPartition) -> int:
        return self._fetched_end

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self._end)


@pytest.fixture
def dead_letters() -> DeadLetters:
    return DeadLetters()


@pytest.fixture
def subscriber(dead_letters: DeadLetters) -> Subscriber:
    async def perform(actions: object) -> None:
        pass

    quiet: Any = SimpleNamespace(abandon=lambda _: None, drop_partition=lambda _: None, perform=perform)
    return Subscriber(quiet, quiet, quiet, dead_letters)


@pytest.fixture
def partition(subscriber: Subscriber) -> OwnedPartition:
    """Owned; its next request is at offset 8."""
    subscriber._generation = 1
    owned = subscriber._owned[0] = OwnedPartition(0, 8, dict.fromkeys(SIDE_TOPICS, 0), subscriber._next_attempt)
    return owned


def test_attempts_grow_also_when_generations_begin_anew_and_the_log_knows_of_none(subscriber: Subscriber) -> None:
    """An attempt may be shown before it is announced; the stand-in's generations begin at 1 when it restarts."""

    def attempt_of_a_turn(generation: int) -> int:
        subscriber._generation = generation
        partition = OwnedPartition(0, 0, dict.fromkeys(SIDE_TOPICS, 0), subscriber._next_attempt)
        subscriber._owned[0] = partition
        partition.requested(0, requested("1"))
        [turn] = partition.turns.values()
        return turn.attempt

    attempts = []
    for generation in (5, 1, 1, 9):
        attempts.append(attempt_of_a_turn(generation))
        subscriber._let_go({0})
    assert attempts == [5, 6, 7, 9]


@pytest.mark.parametrize("is_rebalanced", [False, True])
async def test_a_record_that_is_buried_in_a_rebalance_is_read_again(
    subscriber: Subscriber, partition: OwnedPartition, dead_letters: DeadLetters, is_rebalanced: bool
) -> None:
    """It is fetched again from where the partition stands: applied now, it would look like a log that lost its tail."""

    def rebalance() -> None:
        subscriber._generation += is_rebalanced

    dead_letters.meanwhile = rebalance
    record: Any = SimpleNamespace(topic=CHAT_REQUESTED, partition=0, offset=8, value=b"{", headers=(), key=b"")
    await subscriber._take({REQUESTS: [record]})
    assert partition.prefix.next_offset == (8 if is_rebalanced else 9)


async def test_the_log_lost_its_tail_only_when_the_broker_says_so(
    subscriber: Subscriber, partition: OwnedPartition
) -> None:
    await subscriber._notice_caught_up(Consumer(fetched_end=5, end=8))
    assert not subscriber.has_reread
    with pytest.raises(KafkaError, match="lost its tail"):
        await subscriber._notice_caught_up(Consumer(fetched_end=5, end=5))
    assert subscriber.has_reread


async def test_a_stop_is_kept_while_its_request_cannot_be_fetched(
    subscriber: Subscriber, partition: OwnedPartition
) -> None:
    partition.cancel_requested(0, cancelled(requested("1")), now=-1000.0)
    at_the_known_end = Consumer(fetched_end=8, end=9)
    subscriber._paused_for_load = True
    await subscriber._notice_caught_up(at_the_known_end)
    assert len(partition._unmatched) == 1
    subscriber._paused_for_load = False
    await subscriber._notice_caught_up(at_the_known_end)
    assert len(partition._unmatched) == 0


async def test_a_partition_commits_all_four_offsets_or_none(
    subscriber: Subscriber, partition: OwnedPartition, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[dict[TopicPartition, int]] = []

    async def commit(_: object, offsets: dict[TopicPartition, int]) -> None:
        commits.append(offsets)

    monkeypatch.setattr(subscriber_module, "commit", commit)
    subscriber._consumer = Consumer(fetched_end=8, end=8)
    everything = {REQUESTS: 8} | {TopicPartition(topic, 0): 0 for topic in SIDE_TOPICS}
    await subscriber._commit()
    await subscriber._commit()
    assert commits == [everything], "nothing moved"
    partition.unreadable(CHAT_REPLIED, 3)
    await subscriber._commit()
    assert commits[1:] == [everything | {TopicPartition(CHAT_REPLIED, 0): 4}]
    assert {tp.topic for tp in commits[1]} == {CHAT_REQUESTED, CHAT_CANCELS, *SIDE_TOPICS}


async def test_a_restore_that_is_cancelled_just_when_it_gets_on_ends(
    subscriber: Subscriber, partition: OwnedPartition
) -> None:
    """Otherwise it would go on beside the next one, and let requests flow when only its own partitions are restored."""

    class Behind(Consumer):
        async def position(self, partition: TopicPartition) -> int:
            return 0

    subscriber._consumer = Behind(fetched_end=8, end=8)
    subscriber._restoring = {0}
    restoring = asyncio.create_task(subscriber._restore_all({0}))
    await asyncio.sleep(0.01)
    subscriber._progress.set()
    restoring.cancel()
    await asyncio.wait([restoring], timeout=1)
    assert restoring.cancelled()


async def test_turns_are_let_go_before_the_group_gives_them_to_others(
    subscriber: Subscriber, partition: OwnedPartition
) -> None:
    owned_when_it_left: list[dict[int, OwnedPartition]] = []

    class Leaving(Consumer):
        async def stop(self) -> None:
            owned_when_it_left.append(dict(subscriber._owned))

    subscriber._consumer = Leaving(fetched_end=8, end=8)
    await subscriber._leave()
    assert owned_when_it_left == [{}]


async def test_a_contested_partition_goes_on_when_the_group_takes_its_commit_and_not_before(
    subscriber: Subscriber, partition: OwnedPartition, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    is_member = False

    async def perform(actions: list[Any]) -> None:
        begun.extend(action.turn.turn_id for action in actions if isinstance(action, Run))

    async def commit(_: object, offsets: dict[TopicPartition, int]) -> None:
        assert offsets, "nothing would be asked"
        if not is_member:
            raise KafkaError("another generation")

    async def ask() -> list[str]:
        begun.clear()
        await subscriber._commit_and_confirm()
        return list(begun)

    subscriber._consumer = Consumer(fetched_end=9, end=9)
    monkeypatch.setattr(subscriber._lanes, "perform", perform)
    monkeypatch.setattr(subscriber_module, "commit", commit)
    request = requested("1")
    await subscriber._lanes.perform(partition.requested(8, request))
    assert begun == [request.turn_id]
    assert await ask() == [], "nothing is contested"
    partition.attempt_started(0, started(request, 99), 0.0)
    subscriber._restoring = {0}
    assert not subscriber._contested(), "a restore may bring its outcome"
    subscriber._restoring = set()
    assert await ask() == []
    assert not subscriber._contested() - subscriber._asked_for, "then with the regular commits"
    is_member = True
    subscriber._consumer._coordinator.generation = 2
    assert await ask() == [], "the group has not given its partitions out yet"
    subscriber._consumer._coordinator.generation = 1
    assert await ask() == [request.turn_id]
    assert await ask() == []
    partition.attempt_started(1, started(request, 199), 0.0)
    assert subscriber._contested() - subscriber._asked_for, "at once, the next time"


def test_attempts_that_were_only_planned_are_not_counted_as_begun(subscriber: Subscriber) -> None:
    """Else this process would be ahead of its generation, and the next owner would number its frames alike."""
    subscriber._generation = 5
    partition = OwnedPartition(0, 0, dict.fromkeys(SIDE_TOPICS, 0), subscriber._next_attempt)
    subscriber._owned[0] = partition
    partition.requested(0, requested("1"))
    partition.attempt_started(0, started(requested("1"), 6), 0.0)
    assert [turn.attempt for turn in partition.turns.values()] == [7]
    subscriber._let_go({0})
    subscriber._generation = 7
    assert subscriber._next_attempt(0) == 7
