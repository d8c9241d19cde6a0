"""A conversation is deleted in mid-turn; then every topic is read again from its beginning: nothing comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from tests.e2e.client import Client, NewClient
from tests.e2e.test_conversations import assert_gone, delete
from tests.e2e.world import World

from logue_common.topics import CO_PARTITIONED

_GROUPS = ("logue-conversation", "logue-agent")
_PROCESSES = ("conversation", "agent-0", "agent-1")


async def _read_everything_again(world: World) -> None:
    """The groups' positions go back to 0 while their members are away; returns when they have read all of it."""
    stack = world.stack
    await asyncio.gather(*(asyncio.to_thread(stack.stop_one, name) for name in _PROCESSES))
    partitions = await _partitions(stack.kafka_bootstrap)
    for group in _GROUPS:
        async with AIOKafkaConsumer(
            bootstrap_servers=stack.kafka_bootstrap, group_id=group, enable_auto_commit=False
        ) as consumer:
            consumer.assign(partitions)
            await consumer.commit(dict.fromkeys(partitions, 0))
            assert [await consumer.committed(partition) for partition in partitions] == [0] * len(partitions)
    await asyncio.gather(*(asyncio.to_thread(stack.start_one, name) for name in _PROCESSES))
    await _caught_up(stack.kafka_bootstrap)


async def _partitions(bootstrap: str) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        described = await admin.describe_topics(list(CO_PARTITIONED))
    finally:
        await admin.close()
    return [TopicPartition(topic["topic"], each["partition"]) for topic in described for each in topic["partitions"]]


async def _caught_up(bootstrap: str) -> None:
    """Waits until the writer's positions are at the log's ends."""
    async with (
        AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=_GROUPS[0], enable_auto_commit=False) as consumer,
        asyncio.timeout(60),
    ):
        written = [each for each in await _partitions(bootstrap) if each.topic != "chat.cancels"]
        consumer.assign(written)
        ends = await consumer.end_offsets(written)
        while any([(await consumer.committed(each) or 0) < ends[each] for each in written]):
            await asyncio.sleep(0.2)


async def _everything(clients: Sequence[Client]) -> list[Any]:
    """All that these users can read."""
    found: list[Any] = []
    for client in clients:
        conversations = (await client.get("conversations", params={"limit": 100}))["items"]
        found += [conversations, [await client.messages(each["id"]) for each in conversations]]
    return found


async def test_nothing_that_was_deleted_comes_back_when_every_topic_is_replayed(
    new_client: NewClient, quiet: World
) -> None:
    ann, bob = new_client(), new_client()
    kept = await ann.chat("{{context}} kept")
    await ann.chat("{{context}} kept too", conversation_id=kept["conversation_id"])
    cancelled = await ann.ask("{{ttft=50}} cancelled", conversation_id=kept["conversation_id"])
    await ann.cancel(cancelled["turn_id"])
    await bob.post("{{fail=400}} failed")
    await bob.ended((await bob.chat("Bob's"))["turn_id"])
    await ann.ended(cancelled["turn_id"])

    over = await ann.chat("deleted after its turn")
    await ann.ended(over["turn_id"])
    await delete(ann, over["conversation_id"])
    running = ann.stream(f"{{{{tokens=5000 gap=0.05}}}} {uuid4().hex}")
    await running.until(deltas=3)
    assert running.turn_id is not None
    deleted = (await ann.get(f"turns/{running.turn_id}"))["conversation_id"]
    waiting = await ann.ask("deleted while it waits", conversation_id=deleted)
    await delete(ann, deleted)
    shown = await ann.resume(running.turn_id, running.shown).to_end()
    assert shown.ending is not None
    gone = [(over["conversation_id"], over["turn_id"])]
    gone += [(deleted, turn) for turn in (running.turn_id, waiting["turn_id"])]

    before, calls = await _everything([ann, bob]), quiet.all_model_calls()
    await _read_everything_again(quiet)
    assert await _everything([ann, bob]) == before
    for conversation, turn in gone:
        await assert_gone(ann, conversation, turn)
    assert quiet.all_model_calls() == calls, "what was decided is not run again"

    reply = await ann.chat("goes on", conversation_id=kept["conversation_id"])
    listed = await ann.messages(kept["conversation_id"], after_turn=reply["turn_id"])
    assert listed[:-2] == before[1][0]
