"""More in the log than a batch takes, and partitions that go and come back meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.structs import TopicPartition
from sqlalchemy import text
from tests.integration.conversation.events import NOON, Turn
from tests.integration.conversation.kafka import records_of, skip_what_is_there
from tests.integration.conversation.support import Service, Urls, eventually, has_row, is_ready, open_service

from logue_common.consumer import stop_consumer
from logue_common.events import ConversationChanged, decode, encode, event_headers
from logue_common.ids import new_id
from logue_common.settings import KafkaSettings, TopicSettings
from logue_common.topics import CHAT_REQUESTED, CONVERSATION_CHANGED, ensure_topics
from logue_conversation import subscriber
from logue_conversation.batches import TOPICS, Batch
from logue_conversation.errors import StoreUnavailableError
from logue_conversation.projection import Change
from logue_conversation.subscriber import GROUP

_TURNS = 3000


@asynccontextmanager
async def _member(broker: str) -> AsyncIterator[None]:
    """Another member of the writers' group, which stores nothing."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker,
        group_id=GROUP,
        enable_auto_commit=False,
        partition_assignment_strategy=[RangePartitionAssignor],
    )
    consumer.subscribe(TOPICS)
    await consumer.start()
    try:
        yield
    finally:
        await stop_consumer(consumer)


async def _requested(service: Service, turns: list[Turn]) -> None:
    records = [
        (t.conversation_id, encode(t.requested()), event_headers(t.requested(), source="test", at=NOON)) for t in turns
    ]
    assert await service.producer.wait_connected(10)
    await service.producer.send_all(CHAT_REQUESTED, records)


async def _positions(connection: Any) -> dict[int, int]:
    query = text("SELECT partition, next_offset FROM log_positions WHERE topic = 'chat.requested'")
    return {row[0]: row[1] for row in await connection.execute(query)}


async def _stored(connection: Any) -> dict[int, int]:
    query = text("SELECT request_partition, max(request_offset) + 1 FROM turns GROUP BY 1")
    return {row[0]: row[1] for row in await connection.execute(query)}


async def test_a_position_never_says_more_than_is_stored_whoever_comes_and_goes(
    urls: Urls, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure_topics(KafkaSettings(kafka_bootstrap=broker), TopicSettings(partitions=4))
    await skip_what_is_there(broker)
    user = f"user-{new_id()}"
    turns = [Turn(user_id=user) for _ in range(_TURNS)]
    async with open_service(urls, broker, conversation_batch_records=200) as service:
        await eventually(lambda: is_ready(service))
        before = await service.resources.api.as_nobody(_positions)
        store = service.resources.subscriber._writer.store

        async def slow_store(batch: Batch) -> list[Change]:
            await asyncio.sleep(0.3 if batch.events else 0)
            return await store(batch)

        monkeypatch.setattr(service.resources.subscriber._writer, "store", slow_store)
        monkeypatch.setattr(subscriber, "_ASSERT_SECONDS", 0.01)

        async with AsyncExitStack() as staying, asyncio.timeout(60), asyncio.TaskGroup() as group:
            await staying.enter_async_context(_member(broker))  # the group waits until this one notices who comes
            await _requested(service, turns)

            async def come_and_go() -> None:
                for _ in range(2):
                    await asyncio.sleep(1.0)
                    async with _member(broker):
                        await asyncio.sleep(1.0)
                await staying.aclose()

            coming_and_going = group.create_task(come_and_go())
            while not coming_and_going.done() or await _count(service, user) < _TURNS:
                positions = await service.resources.api.as_nobody(_positions)
                stored = await service.resources.api.as_user(user, _stored)  # after them: it may only be more
                beyond = {p: (n, stored.get(p)) for p, n in positions.items() if n > stored.get(p, before.get(p, 0))}
                assert not beyond, "partition: (position, stored)"
                await asyncio.sleep(0.02)


async def test_no_offset_is_committed_before_what_changed_is_told(
    urls: Urls, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure_topics(KafkaSettings(kafka_bootstrap=broker), TopicSettings(partitions=4))
    await skip_what_is_there(broker)
    turn = Turn(user_id=f"user-{new_id()}")

    async def away(_: object) -> None:
        raise StoreUnavailableError("away")

    async with open_service(urls, broker) as service:
        await eventually(lambda: is_ready(service))
        with monkeypatch.context() as patched:
            patched.setattr(service.resources.subscriber._teller, "tell", away)
            [sent] = await service.publish(turn.requested())
            place = TopicPartition(sent.topic, sent.partition)
            await eventually(lambda: has_row(service, turn.user_id, turn.turn_id))
            await asyncio.sleep(0.5)
            assert (await service.resources.ends.committed(GROUP, [place])).get(place, 0) <= sent.offset

        async def is_committed() -> bool:
            return (await service.resources.ends.committed(GROUP, [place])).get(place, 0) > sent.offset

        await eventually(is_committed)
    found = await records_of(broker, CONVERSATION_CHANGED, turn.user_id)
    changes = [decode(ConversationChanged, record.value).change for record in found]
    assert changes == ["conversation.created", "turn.started"]


async def _count(service: Service, user: str) -> int:
    query = text("SELECT count(*) FROM turns")
    return int(await service.resources.api.as_user(user, lambda connection: connection.scalar(query)) or 0)
