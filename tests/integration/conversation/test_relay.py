"""The outbox: in order, complete, one replica at a time."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.integration.conversation.events import NOON
from tests.integration.conversation.kafka import records_of
from tests.integration.conversation.support import Databases

from logue_common.ids import new_id
from logue_common.producer import Producer
from logue_common.settings import KafkaSettings, TopicSettings
from logue_common.topics import CONVERSATION_CHANGED, ensure_topics
from logue_conversation import outbox
from logue_conversation.projection import Change
from logue_conversation.relay import Relay


async def test_several_relays_publish_every_row_once_and_in_order(databases: Databases, broker: str) -> None:
    await ensure_topics(KafkaSettings(kafka_bootstrap=broker), TopicSettings(partitions=4))
    user, conversation_id = f"user-{new_id()}", new_id()
    turns = [new_id() for _ in range(1200)]

    async def fill(connection: Any) -> None:
        changes = (Change("turn.started", user, conversation_id, turn) for turn in turns)
        await outbox.add(connection, (outbox.changed(change, NOON) for change in changes))

    await databases.writer.as_users([user], fill)
    producers = [Producer({"bootstrap_servers": broker}, client_id=f"relay-{n}") for n in range(2)]
    relays = [Relay(databases.relay, producer) for producer in producers]
    for producer in producers:
        producer.start()

    published: list[int] = []

    async def drain(relay: Relay) -> None:
        while sum(published) < len(turns):
            published.append(await relay.publish_next())

    async with asyncio.timeout(20):
        await asyncio.gather(*map(drain, relays))
    for producer in producers:
        await producer.close()
    found = await records_of(broker, CONVERSATION_CHANGED, user)
    assert [dict(record.headers)["correlation_id"].decode() for record in found] == turns
