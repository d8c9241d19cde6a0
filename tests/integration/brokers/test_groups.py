"""What Logue needs of consumer groups: co-partitioning, generations, commits, and that the dead are noticed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError
from aiokafka.structs import OffsetAndMetadata
from tests.integration.brokers.kit import (
    Member,
    consuming,
    create_named,
    create_topic,
    create_topics,
    expel,
    produce,
    take,
    until,
)

from logue_common.consumer import commit
from logue_common.ids import new_id
from logue_common.settings import METADATA_MAX_AGE_MS

PARTITIONS = 6


def _settled(members: list[Member], partitions: int = PARTITIONS) -> bool:
    """Every partition of every topic has exactly one owner, and every member owns something."""
    topics = members[0].topics
    owned = [tp for member in members for tp in member.owned]
    return all(member.owned for member in members) and sorted(owned) == sorted(
        TopicPartition(topic, partition) for topic in topics for partition in range(partitions)
    )


async def test_one_member_owns_everything_and_another_gets_its_share(broker: str) -> None:
    topics = await create_topics(broker, 4, PARTITIONS)
    group = f"group-{new_id()}"
    async with Member(broker, group, topics) as one:
        await until(lambda: _settled([one]))
        assert one.revocations == 1, "revoked is called before the first assignment, too"
        async with Member(broker, group, topics) as two:
            await until(lambda: _settled([one, two]))
            for member in (one, two):
                shares = list(member.partitions.values())
                assert len(shares[0]) == PARTITIONS // 2
                assert shares == [shares[0]] * 4, "co-partitioned: the same numbers of every topic"
            assert one.generation == two.generation
        await until(lambda: _settled([one]))


async def test_range_assignment_co_partitions_among_three_members(broker: str) -> None:
    topics = await create_topics(broker, 4, 7)
    group = f"group-{new_id()}"
    async with AsyncExitStack() as stack:
        members = [await stack.enter_async_context(Member(broker, group, topics)) for _ in range(3)]
        await until(lambda: _settled(members, 7))
        for member in members:
            shares = list(member.partitions.values())
            assert shares == [shares[0]] * 4
        assert sorted(len(member.owned) for member in members) == [8, 8, 12]


async def test_every_rebalance_has_a_later_generation(broker: str) -> None:
    """Attempt numbers are generations: a takeover must have a larger one, or its frames would count as old."""
    topics = await create_topics(broker, 4, PARTITIONS)
    group = f"group-{new_id()}"
    async with Member(broker, group, topics) as one:
        await until(lambda: _settled([one]))
        for _ in range(3):
            async with Member(broker, group, topics) as two:
                await until(lambda: _settled([one, two]))
                assert two.generations[-1] == one.generations[-1]
            await until(lambda: _settled([one]))
        assert one.generations == sorted(set(one.generations))
        assert one.generations[0] >= 1
        assert len(one.generations) >= 7


async def test_generations_go_on_after_the_group_was_empty(broker: str) -> None:
    """All agents restart at once. Otherwise a new attempt could be numbered like one of before."""
    topics = await create_topics(broker, 4, PARTITIONS)
    group = f"group-{new_id()}"
    seen = []
    for _ in range(3):
        async with Member(broker, group, topics) as member:
            await until(lambda: _settled([member]))
            seen.append(member.generation)
    assert seen == sorted(set(seen))


async def test_committed_offsets_survive_members(broker: str) -> None:
    topic = await create_topic(broker, 2)
    group = f"group-{new_id()}"
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await produce(broker, topic, [b"%d" % n for n in range(10)], 0)
    async with Member(broker, group, [topic]) as member:
        await until(lambda: len(member.records) == 10)
        assert await member.consumer.committed(first) is None
        await member.consumer.commit({first: OffsetAndMetadata(4, "note")})
    async with Member(broker, group, [topic]) as member:
        await until(lambda: len(member.records) == 6)
        assert [record.offset for record in member.records] == list(range(4, 10))
        assert await member.consumer.committed(first) == 4
        assert await member.consumer.committed(second) is None
        await member.consumer.commit({first: 2})
    async with Member(broker, group, [topic]) as member:
        await until(lambda: len(member.records) == 8)


async def test_a_group_may_be_positioned_before_it_has_members(broker: str) -> None:
    topic = await create_topic(broker)
    tp = TopicPartition(topic, 0)
    group = f"group-{new_id()}"
    await produce(broker, topic, [b"v"] * 5)
    async with consuming(broker, tp, group_id=group) as consumer:
        await consumer.commit({tp: 3})
    async with Member(broker, group, [topic]) as member:
        await until(lambda: len(member.records) == 2)
        assert member.records[0].offset == 3


async def test_a_commit_while_partitions_are_revoked_counts(broker: str, request: pytest.FixtureRequest) -> None:
    """The last thing an owner does. The next owner starts there, not before.

    The stand-in deviates: it begins the new generation when the first member joins it, and then refuses the commits of
    those that have not joined yet (Apache Kafka takes them until all have). So on it work done since the last periodic
    commit comes twice, which owners must bear anyway, and the commit in the callback must not be the only one. The
    client must then go on as the member that it was: see logue_common.consumer.commit.
    """
    topic = await create_topic(broker, 2)
    group = f"group-{new_id()}"
    tps = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    for partition in range(2):
        await produce(broker, topic, [b"v"] * 5, partition)
    async with Member(broker, group, [topic]) as one:
        await until(lambda: len(one.records) == 10)
        await one.consumer.commit(dict.fromkeys(tps, 2))
        one.commit_on_revoke = dict.fromkeys(tps, 4)
        async with Member(broker, group, [topic]) as two:
            await until(lambda: _settled([one, two], 2) and bool(two.records))
            if _is_apache(request):
                assert one.refused_commits == 0
            assert two.records[0].offset == (2 if one.refused_commits else 4)


def _is_apache(request: pytest.FixtureRequest) -> bool:
    return bool(request.node.get_closest_marker("apache"))


async def test_an_owner_may_seek_as_it_gets_a_partition(broker: str) -> None:
    """So a lane that goes on does not fetch again what it holds."""
    topic = await create_topic(broker)
    tp = TopicPartition(topic, 0)
    group = f"group-{new_id()}"
    await produce(broker, topic, [b"v"] * 10)
    member = Member(broker, group, [topic])
    member.seek_on_assign = {tp: 7}
    async with member:
        await until(lambda: len(member.records) == 3)
        assert [record.offset for record in member.records] == [7, 8, 9]
        assert await member.consumer.position(tp) == 10


async def test_ends_can_be_asked_for_as_partitions_are_assigned(broker: str) -> None:
    """An owner reads up to the ends that it saw at assignment, before it starts any lane.

    It pauses before it awaits anything: records may come as soon as the callback lets the loop run.
    """
    topic = await create_topic(broker)
    tp = TopicPartition(topic, 0)
    await produce(broker, topic, [b"v"] * 5)
    found: list[tuple[int, int | None]] = []

    class Curious(Member):
        async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
            self.consumer.pause(tp)
            ends = await self.consumer.end_offsets(assigned)
            found.append((ends[tp], await self.consumer.committed(tp)))
            await super().on_partitions_assigned(assigned)

    async with Curious(broker, f"group-{new_id()}", [topic]) as member:
        await until(lambda: bool(found))
        assert found == [(5, None)]
        await asyncio.sleep(0.2)
        assert member.records == [], "a partition that is paused in the callback stays paused"
        member.consumer.resume(tp)
        await until(lambda: len(member.records) == 5)


async def test_a_member_that_pauses_everything_stays_a_member(broker: str) -> None:
    topic = await create_topic(broker)
    tp = TopicPartition(topic, 0)
    async with Member(broker, f"group-{new_id()}", [topic], max_poll_interval_ms=1500) as member:
        await until(lambda: bool(member.owned))
        member.consumer.pause(tp)
        await produce(broker, topic, [b"v"])
        await asyncio.sleep(2.5)
        assert len(member.generations) == 1
        assert member.records == []
        member.consumer.resume(tp)
        await until(lambda: len(member.records) == 1)


@contextmanager
def _member_process(bootstrap: str, group: str, topics: list[str], ready: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A member in a process of its own, which can die or freeze."""
    command = [sys.executable, "-m", "tests.integration.brokers.member", bootstrap, group, str(ready), *topics]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_partitions_of_a_silent_member_move_within_its_session_timeout(
    broker: str, tmp_path: Path, fate: signal.Signals, request: pytest.FixtureRequest
) -> None:
    """The silent one is the leader of the group, which is the harder case.

    The stand-in deviates: it has no session timeout. A silent member keeps its partitions until another one joins, and
    when it was the leader, the group never completes another rebalance: it waits for the dead one's assignment.
    Somebody must leave for it; then the partitions move at once.
    """
    topics = await create_topics(broker, 4, PARTITIONS)
    group = f"group-{new_id()}"
    ready = tmp_path / "owned"
    with _member_process(broker, group, topics, ready) as silent:
        await until(lambda: ready.exists() and ready.read_text() == f"{4 * PARTITIONS}\n")
        async with Member(broker, group, topics) as member:
            await until(lambda: len(member.owned) == 2 * PARTITIONS)
            before = member.generation
            os.kill(silent.pid, fate)
            if not _is_apache(request):
                await expel(broker, group, "silent")
            async with asyncio.timeout(12):
                await until(lambda: _settled([member]))
            assert member.generation > before
            if fate == signal.SIGSTOP:
                os.kill(silent.pid, signal.SIGCONT)
                await until(lambda: len(member.owned) == 2 * PARTITIONS)
            assert member.generations == sorted(set(member.generations))


async def test_the_commit_of_an_earlier_generation_is_refused(broker: str, tmp_path: Path) -> None:
    """A frozen owner that wakes up must not move the position of the one that took over."""
    topic = await create_topic(broker, 2)
    tp = TopicPartition(topic, 0)
    group = f"group-{new_id()}"
    await produce(broker, topic, [b"v"] * 10)
    async with Member(broker, group, [topic]) as one:
        await until(lambda: len(one.records) == 10)
        coordinator = one.consumer._coordinator
        await one.consumer.commit({tp: 5})
        coordinator.generation -= 1
        with pytest.raises(CommitFailedError):
            await commit(one.consumer, {tp: 9})
        await until(lambda: len(one.generations) >= 2, 10)
        assert await one.consumer.committed(tp) == 5


async def test_a_member_that_was_there_before_its_topics_finds_them(
    broker: str, request: pytest.FixtureRequest
) -> None:
    """Services may start before their topics are made, and a broker may hear of a topic after its creator did.

    The stand-in deviates: it makes a topic of whatever is asked for, so nobody can be there before.
    """
    names = [f"test.{new_id()}" for _ in range(2)]
    async with Member(broker, f"group-{new_id()}", names) as member:
        await until(lambda: bool(member.generations))
        if _is_apache(request):
            await create_named(broker, names)
        await until(lambda: _settled([member], 1), METADATA_MAX_AGE_MS / 1000 + 10)


async def test_many_members_come_and_go(broker: str) -> None:
    """Scaling up and down: at rest every partition has one owner, and no record is left over."""
    [topic] = await create_topics(broker, 1, PARTITIONS)
    group = f"group-{new_id()}"
    async with AsyncExitStack() as stack:
        members = [await stack.enter_async_context(Member(broker, group, [topic])) for _ in range(4)]
        await until(lambda: _settled(members))
        for member in members[1:]:
            await member.leave()
        await until(lambda: _settled(members[:1]))
        for partition in range(PARTITIONS):
            await produce(broker, topic, [b"v"], partition)
        await until(lambda: len(members[0].records) == PARTITIONS)


async def test_take_reads_in_a_group_too(broker: str) -> None:
    """The batch reader of the conversation service: `getmany` hands out every partition's records in order."""
    topic = await create_topic(broker, 3)
    for partition in range(3):
        await produce(broker, topic, [b"%d" % n for n in range(200)], partition)
    async with consuming(broker, group_id=f"group-{new_id()}") as consumer:
        consumer.subscribe([topic])
        records = await take(consumer, 600)
    for partition in range(3):
        assert [r.offset for r in records if r.partition == partition] == list(range(200))
