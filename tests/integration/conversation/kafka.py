"""Looks into topics."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from logue_common.consumer import stop_consumer
from logue_conversation.batches import TOPICS
from logue_conversation.subscriber import GROUP


async def partitions_of(bootstrap_servers: str, topic: str) -> list[int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        return [partition["partition"] for partition in (await admin.describe_topics([topic]))[0]["partitions"]]
    finally:
        await admin.close()


async def records_of(bootstrap_servers: str, topic: str, key: str) -> list[Any]:
    """Everything that the topic holds under this key."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=None, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, p) for p in await partitions_of(bootstrap_servers, topic)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[Any] = []
        while any([await consumer.position(p) < end for p, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found += [record for record in records if record.key == key.encode()]
        return found
    finally:
        await stop_consumer(consumer)


async def skip_what_is_there(bootstrap_servers: str) -> None:
    """Let the writers' group begin at the end: other tests leave records in the shared log. No member may be in it."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=GROUP, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(t, p) for t in TOPICS for p in await partitions_of(bootstrap_servers, t)]
        consumer.assign(partitions)
        await consumer.commit(await consumer.end_offsets(partitions))
    finally:
        await stop_consumer(consumer)
