"""What the writer has stored reaches the topic, or the outbox while that takes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.integration.conversation.kafka import records_of
from tests.integration.conversation.support import Databases, TestClock

from logue_common.events import ConversationChanged, decode
from logue_common.ids import new_id
from logue_common.producer import Producer
from logue_common.settings import KafkaSettings, TopicSettings
from logue_common.topics import CONVERSATION_CHANGED, ensure_topics
from logue_conversation import telling
from logue_conversation.errors import StoreUnavailableError
from logue_conversation.projection import Change
from logue_conversation.relay import Relay
from logue_conversation.tables import outbox
from logue_conversation.telling import Teller
from logue_devstack.server import free_ports


def changes_of(user: str, count: int) -> list[Change]:
    conversation = new_id()
    return [Change("turn.started", user, conversation, new_id()) for _ in range(count)]


async def in_outbox(databases: Databases) -> list[str]:
    """The turns, in order."""

    async def look(connection: Any) -> list[str]:
        rows = await connection.execute(outbox.select().order_by(outbox.c.id))
        return [str(decode(ConversationChanged, row.value).turn_id) for row in rows]

    return await databases.relay.as_nobody(look)


@pytest.fixture
async def unreachable() -> AsyncIterator[Producer]:
    producer = Producer({"bootstrap_servers": f"127.0.0.1:{free_ports(1)[0]}"}, client_id="test")
    producer.start()
    yield producer
    await producer.close()


def teller_of(databases: Databases, clock: TestClock, producer: Producer) -> tuple[Teller, Relay]:
    relay = Relay(databases.relay, producer)
    return Teller(producer, databases.writer, clock, relay), relay


async def test_changes_are_in_the_topic_in_their_order(databases: Databases, clock: TestClock, broker: str) -> None:
    await ensure_topics(KafkaSettings(kafka_bootstrap=broker), TopicSettings(partitions=4))
    producer = Producer({"bootstrap_servers": broker}, client_id="test")
    producer.start()
    teller, _ = teller_of(databases, clock, producer)
    user = f"user-{new_id()}"
    changes = changes_of(user, 300)
    await teller.tell(changes)
    await teller.tell([])
    await producer.close()
    found = [decode(ConversationChanged, r.value) for r in await records_of(broker, CONVERSATION_CHANGED, user)]
    assert [(e.change, e.turn_id) for e in found] == [(change.change, change.turn_id) for change in changes]
    assert await in_outbox(databases) == []


async def test_what_the_broker_does_not_take_goes_through_the_outbox_in_order_until_that_is_empty(
    databases: Databases, clock: TestClock, unreachable: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []

    async def send_all(_: str, records: list[tuple[str, bytes, Any]], **__: Any) -> None:
        sent.extend(value for _, value, _ in records)

    monkeypatch.setattr(telling, "_SECONDS", 0.2)
    teller, relay = teller_of(databases, clock, unreachable)
    first, second, third, fourth = (changes_of("ann", 1) for _ in range(4))
    await teller.tell(first)
    assert await in_outbox(databases) == [first[0].turn_id]
    assert not relay.is_through

    monkeypatch.setattr(unreachable, "wait_connected", _yes)
    monkeypatch.setattr(unreachable, "send_all", send_all)
    await teller.tell(second)  # not at once: it may fail again
    teller._publish_from = float("-inf")
    await teller.tell(third)  # nor past what still waits
    assert await in_outbox(databases) == [change.turn_id for change in (*first, *second, *third)]
    assert sent == []

    relay.is_through = True
    await teller.tell(fourth)
    assert [decode(ConversationChanged, value).turn_id for value in sent] == [fourth[0].turn_id]


async def _yes(_: float) -> bool:
    return True


async def test_with_neither_broker_nor_store_it_says_so(
    databases: Databases, clock: TestClock, unreachable: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise StoreUnavailableError("away")

    monkeypatch.setattr(telling, "_SECONDS", 0.2)
    monkeypatch.setattr(databases.writer, "as_users", away)
    with pytest.raises(StoreUnavailableError):
        await teller_of(databases, clock, unreachable)[0].tell(changes_of("ann", 1))
