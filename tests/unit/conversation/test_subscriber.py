"""What the writer says of its positions while the group is rebalanced, and which records it buries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.structs import TopicPartition
from tests.integration.conversation.events import Turn

from logue_common.topics import CHAT_REQUESTED
from logue_conversation import subscriber as subscriber_module
from logue_conversation.batches import Batch, Decoded
from logue_conversation.errors import DataRejectedError
from logue_conversation.news import News
from logue_conversation.projection import Logged
from logue_conversation.subscriber import ISOLATION, Subscriber
from logue_conversation.tables import ISOLATION_CONSTRAINT

PARTITIONS = [TopicPartition(CHAT_REQUESTED, number) for number in range(2)]
BEHIND_THE_BACKLOG = 600


class Writer:
    def __init__(self) -> None:
        self.positions: list[dict[TopicPartition, int]] = []

    async def store(self, batch: Batch) -> list[Any]:
        self.positions.append(batch.positions)
        return []


class Refusing(Writer):
    """Refuses every record so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def store(self, batch: Batch) -> list[Any]:
        if batch.events and self.times:
            self.times -= 1
            raise DataRejectedError("23505", "duplicate key value", ISOLATION_CONSTRAINT)
        return await super().store(batch)


class DeadLetters:
    def __init__(self) -> None:
        self.buried: list[str] = []

    async def bury(self, record: Any, *, error_class: str, text: str) -> None:
        self.buried.append(error_class)


class Consumer:
    """In a rebalance it still names its partitions, and stands behind records that the backlog has let go."""

    def __init__(self, while_asked: Callable[[], None] = lambda: None) -> None:
        self._while_asked = while_asked

    def assignment(self) -> set[TopicPartition]:
        return set(PARTITIONS)

    async def position(self, partition: TopicPartition) -> int:
        self._while_asked()
        return BEHIND_THE_BACKLOG


@pytest.fixture
async def writer() -> Writer:
    return Writer()


@pytest.fixture
async def subscriber(writer: Writer) -> Subscriber:
    unused: Any = None
    return Subscriber({}, writer, unused, unused, batch_records=10, news=News())


async def test_no_position_before_it_has_joined(subscriber: Subscriber, writer: Writer) -> None:
    await subscriber._assert_positions(Consumer())
    assert writer.positions == []
    subscriber._joined()
    await subscriber._assert_positions(Consumer())
    assert writer.positions == [dict.fromkeys(PARTITIONS, BEHIND_THE_BACKLOG)]


async def test_no_position_when_partitions_go_meanwhile(subscriber: Subscriber, writer: Writer) -> None:
    subscriber._joined()
    await subscriber._assert_positions(Consumer(while_asked=subscriber._revoked))
    assert writer.positions == []


async def test_no_position_when_partitions_come_back_meanwhile(subscriber: Subscriber, writer: Writer) -> None:
    subscriber._joined()
    subscriber._revoked()
    await subscriber._assert_positions(Consumer(while_asked=subscriber._joined))
    assert writer.positions == []


async def test_no_position_when_partitions_go_and_come_back_meanwhile(subscriber: Subscriber, writer: Writer) -> None:
    def rebalance() -> None:
        subscriber._revoked()
        subscriber._joined()

    subscriber._joined()
    await subscriber._assert_positions(Consumer(while_asked=rebalance))
    assert writer.positions == []


async def test_the_position_is_where_the_backlog_begins(subscriber: Subscriber, writer: Writer) -> None:
    class Record:
        offset, timestamp = 550, 0

    subscriber._joined()
    subscriber._backlog.add({PARTITIONS[0]: [Record()]})
    await subscriber._assert_positions(Consumer())
    assert writer.positions == [{PARTITIONS[0]: 550, PARTITIONS[1]: BEHIND_THE_BACKLOG}]


async def test_the_others_positions_are_told_when_one_cannot_be_learnt(
    subscriber: Subscriber, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WithoutOneBroker(Consumer):
        async def position(self, partition: TopicPartition) -> int:
            if partition == PARTITIONS[0]:
                await asyncio.sleep(60)
            return BEHIND_THE_BACKLOG

    monkeypatch.setattr(subscriber_module, "_POSITION_SECONDS", 0.01)
    subscriber._joined()
    await subscriber._assert_positions(WithoutOneBroker())
    assert writer.positions == [{PARTITIONS[1]: BEHIND_THE_BACKLOG}]


@pytest.mark.parametrize(("refusals", "buried"), [(1, []), (2, [ISOLATION])])
async def test_a_record_is_buried_when_it_is_refused_twice(refusals: int, buried: list[str]) -> None:
    """Once may be a race: another writer made the same conversation at the same moment."""
    dead_letters, writer, unused = DeadLetters(), Refusing(refusals), None
    subscriber: Any = Subscriber({}, writer, unused, dead_letters, batch_records=10, news=News())
    event = Logged(CHAT_REQUESTED, 0, 7, Turn().requested())
    batch = Batch([event], {PARTITIONS[0]: 8})

    class Record:
        topic, partition, offset = CHAT_REQUESTED, 0, 7

    await subscriber._bisect(Consumer(), Decoded(batch, records=[Record()]), batch)
    assert dead_letters.buried == buried
    assert writer.positions == [{PARTITIONS[0]: 8}]


async def test_it_stops_although_its_client_waits_for_what_never_comes(
    subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "_STOP_LIMIT_SECONDS", 0.01)
    subscriber._task = asyncio.create_task(asyncio.sleep(60))
    async with asyncio.timeout(5):
        await subscriber.stop()
