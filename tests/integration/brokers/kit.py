"""What the conformance tests share: topics, records, and members of consumer groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import CommitFailedError
from aiokafka.protocol.group import LeaveGroupRequest
from aiokafka.structs import ConsumerRecord

from logue_common.consumer import commit, stop_consumer, tune_fetches
from logue_common.ids import new_id
from logue_common.settings import METADATA_MAX_AGE_MS
from logue_common.topics import wait_known


async def create_topics(bootstrap: str, count: int = 1, partitions: int = 1, **configs: str) -> list[str]:
    """New topics with names of their own."""
    names = [f"test.{new_id()}" for _ in range(count)]
    await create_named(bootstrap, names, partitions, **configs)
    return names


async def create_named(bootstrap: str, names: Sequence[str], partitions: int = 1, **configs: str) -> None:
    """New topics; returns when the broker tells of them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        topics = [NewTopic(name, partitions, 1, topic_configs=configs) for name in names]
        response = await admin.create_topics(topics)
        assert [error[1] for error in response.topic_errors] == [0] * len(names)
        await wait_known(admin, list(names))
    finally:
        await admin.close()


async def create_topic(bootstrap: str, partitions: int = 1, **configs: str) -> str:
    """A new topic with a name of its own."""
    return (await create_topics(bootstrap, 1, partitions, **configs))[0]


@asynccontextmanager
async def producing(bootstrap: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """A producer with the options that Logue uses."""
    values: dict[str, Any] = {"acks": "all", "enable_idempotence": True, "linger_ms": 0}
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, **(values | options))
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def consuming(bootstrap: str, *tps: TopicPartition, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of these partitions, without a group unless the options name one."""
    values: dict[str, Any] = {
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "fetch_max_wait_ms": 50,
        "max_partition_fetch_bytes": 5 * 1024 * 1024,
    }
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, **(values | options))
    await consumer.start()
    tune_fetches(consumer)
    try:
        if tps:
            consumer.assign(tps)
        yield consumer
    finally:
        await stop_consumer(consumer)


async def produce(bootstrap: str, topic: str, values: Sequence[bytes], partition: int = 0) -> list[int]:
    """Put records into one partition; returns their offsets."""
    async with producing(bootstrap) as producer:
        sent = [await producer.send(topic, value, key=b"k", partition=partition) for value in values]
        return [(await one).offset for one in sent]


async def take(consumer: AIOKafkaConsumer, count: int, seconds: float = 15.0) -> list[ConsumerRecord]:
    """The next `count` records, in the order in which they come."""
    found: list[ConsumerRecord] = []
    async with asyncio.timeout(seconds):
        while len(found) < count:
            batches = await consumer.getmany(timeout_ms=100, max_records=count - len(found))
            found += [record for records in batches.values() for record in records]
    return found


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def expel(bootstrap: str, group: str, client_id: str) -> None:
    """Send the LeaveGroup that a dead or frozen member did not send."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        [response] = await admin.describe_consumer_groups([group])
        members = [member for _, _, _, _, _, members, *_ in response.groups for member in members]
        [member_id] = [member[0] for member in members if member[1] == client_id]
        coordinator = await admin.find_coordinator(group)
        await admin._client.send(coordinator, LeaveGroupRequest(group, member_id))
    finally:
        await admin.close()


class Member(ConsumerRebalanceListener):
    """A member of a group that keeps polling, as the agent does. It writes down what happens to it."""

    def __init__(self, bootstrap: str, group: str, topics: Sequence[str], **options: Any) -> None:
        self.topics = topics
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=500,
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
            partition_assignment_strategy=(RangePartitionAssignor,),
            **options,
        )
        self.owned: set[TopicPartition] = set()
        self.generations: list[int] = []
        self.records: list[ConsumerRecord] = []
        self.revocations = 0
        self.refused_commits = 0
        self.commit_on_revoke: dict[TopicPartition, int] = {}
        self.seek_on_assign: dict[TopicPartition, int] = {}
        self._polling: asyncio.Task[None] | None = None

    @property
    def generation(self) -> int:
        """The group's generation as this member knows it: Logue's attempt numbers are made of it."""
        return int(self.consumer._coordinator.generation)

    @property
    def partitions(self) -> dict[str, set[int]]:
        """Owned partition numbers by topic."""
        return {topic: {tp.partition for tp in self.owned if tp.topic == topic} for topic in self.topics}

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        self.revocations += 1
        self.owned = set()
        if self.commit_on_revoke and revoked:
            try:
                await commit(self.consumer, self.commit_on_revoke)
            except CommitFailedError:
                self.refused_commits += 1

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        for tp in assigned:
            if tp in self.seek_on_assign:
                self.consumer.seek(tp, self.seek_on_assign[tp])
        self.owned = set(assigned)
        self.generations.append(self.generation)

    async def __aenter__(self) -> Member:
        await self.consumer.start()
        tune_fetches(self.consumer)
        self.consumer.subscribe(self.topics, listener=self)
        self._polling = asyncio.create_task(self._poll())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def leave(self) -> None:
        """Leave the group gracefully."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)
            self._polling = None
        await stop_consumer(self.consumer)

    async def _poll(self) -> None:
        while True:
            for records in (await self.consumer.getmany(timeout_ms=50)).values():
                self.records += records
