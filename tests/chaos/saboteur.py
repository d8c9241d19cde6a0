"""Writes into Logue's topics what nobody should: duplicates out of order, garbage, records as large as they get."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import ConsumerRecord

from logue_common.consumer import stop_consumer
from logue_common.topics import CHAT_DLQ, CHAT_STREAM, CO_PARTITIONED, MAX_RECORD_BYTES

_REMEMBERED = 400


class Saboteur:
    """A client of the cluster's brokers that knows no rules."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, acks="all", max_request_size=MAX_RECORD_BYTES, request_timeout_ms=20_000
        )

    async def __aenter__(self) -> Saboteur:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def repeat(self, count: int, choice: random.Random) -> None:
        """Write up to `count` recent records once more, headers and all, in random order."""
        records = await self._latest()
        choice.shuffle(records)
        for record in records[:count]:
            await self._producer.send_and_wait(
                record.topic,
                record.value,
                key=record.key,
                partition=record.partition,
                headers=list(record.headers),
            )

    async def poison(self, choice: random.Random) -> None:
        """Into each topic: no JSON, JSON of nothing, half a record, no value, no headers, and a very large one."""
        latest = await self._latest()
        for topic in (*CO_PARTITIONED, CHAT_STREAM):
            whole = next((record.value for record in latest if record.topic == topic), b"{}")
            garbage = (b"\x00\xff not JSON", b"{}", whole[: len(whole) // 2], None, b'{"turn_id": 1}', b"[" * 10_000)
            for value in (*garbage, b"x" * (MAX_RECORD_BYTES - 100_000)):
                await self._producer.send_and_wait(topic, value, key=choice.randbytes(8))

    async def fill_dead_letters(self) -> None:
        """From now on chat.dlq takes nothing."""
        await self._limit_dead_letters("1")

    async def free_dead_letters(self) -> None:
        """chat.dlq takes what it took before."""
        await self._limit_dead_letters(str(MAX_RECORD_BYTES + 1024 * 1024))

    async def _limit_dead_letters(self, max_bytes: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:
            await admin.alter_configs(
                [ConfigResource(ConfigResourceType.TOPIC, CHAT_DLQ, configs={"max.message.bytes": max_bytes})]
            )
        finally:
            await admin.close()

    async def _latest(self) -> list[ConsumerRecord]:
        """The last records of every partition."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            cluster = await consumer._client.fetch_all_metadata()
            tps = [
                TopicPartition(topic, number)
                for topic in (*CO_PARTITIONED, CHAT_STREAM)
                for number in cluster.partitions_for_topic(topic)
            ]
            consumer.assign(tps)
            ends: dict[TopicPartition, int] = await consumer.end_offsets(tps)
            for tp, end in ends.items():
                consumer.seek(tp, max(0, end - 20))
            found: deque[Any] = deque(maxlen=_REMEMBERED)
            waiting = {tp for tp, end in ends.items() if end}
            while waiting:
                for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                    found += [record for record in records if record.value and len(record.value) < 100_000]
                    if records[-1].offset + 1 >= ends[tp]:
                        waiting.discard(tp)
            return list(found)
        finally:
            await stop_consumer(consumer)
