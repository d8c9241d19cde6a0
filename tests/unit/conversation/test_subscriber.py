"""What the writer says of its positions while the group is rebalanced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from logue_common.topics import CHAT_REQUESTED
from logue_conversation.batches import Batch
from logue_conversation.news import News
from logue_conversation.subscriber import Subscriber

PARTITIONS = [TopicPartition(CHAT_REQUESTED, number) for number in range(2)]
BEHIND_THE_BACKLOG = 600


class Writer:
    def __init__(self) -> None:
        self.positions: list[dict[TopicPartition, int]] = []

    async def store(self, batch: Batch) -> list[Any]:
        self.positions.append(batch.positions)
        return []


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
