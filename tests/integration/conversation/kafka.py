"""Looks into topics."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from logue_common.consumer import stop_consumer


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
