"""Creating Logue's topics, and what a graceful restart of the broker keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from tests.integration.brokers.kit import Member, consuming, create_topic, produce, producing, take, until

from logue_common.ids import new_id
from logue_common.settings import KafkaSettings, TopicSettings
from logue_common.topics import ALL_TOPICS, check_co_partitioning, ensure_topics, topic_specs
from logue_devstack.apache_kafka import ApacheKafka
from logue_devstack.noida import NoidaBroker
from logue_devstack.server import Server, free_ports

TOPIC_ALREADY_EXISTS = 36


@pytest.fixture(params=["noida", pytest.param("apache", marks=pytest.mark.apache)])
def own_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A broker of each kind that only this test uses."""
    port, controller_port = free_ports(2)
    server: Server
    if request.param == "apache":
        request.getfixturevalue("apache_broker")  # skips where it cannot run
        server = ApacheKafka(tmp_path, port, controller_port=controller_port)
    else:
        server = NoidaBroker(tmp_path, port)
    with server:
        yield server


async def test_topics_are_created_once_with_their_partitions(broker: str) -> None:
    kafka = KafkaSettings(kafka_bootstrap=broker)
    settings = TopicSettings()
    first = await ensure_topics(kafka, settings)
    assert set(first) <= set(ALL_TOPICS)
    assert await ensure_topics(kafka, settings) == []
    async with consuming(broker) as consumer:
        cluster = await consumer._client.fetch_all_metadata()
    counts = {topic: len(cluster.partitions_for_topic(topic)) for topic in ALL_TOPICS}
    assert counts == {spec.name: spec.partitions for spec in topic_specs(settings)}
    assert check_co_partitioning(counts) == settings.partitions


async def test_topics_that_exist_stay_as_they_are(broker: str) -> None:
    kafka = KafkaSettings(kafka_bootstrap=broker)
    await ensure_topics(kafka, TopicSettings())
    assert await ensure_topics(kafka, TopicSettings(partitions=3)) == []


async def test_two_that_create_the_topics_at_once_both_succeed(own_broker: Server) -> None:
    kafka = KafkaSettings(kafka_bootstrap=f"127.0.0.1:{own_broker.port}")
    created = await asyncio.gather(*(ensure_topics(kafka, TopicSettings()) for _ in range(3)))
    assert set().union(*created) == set(ALL_TOPICS)


async def test_creating_a_topic_again_says_that_it_exists(broker: str) -> None:
    name = f"test.{new_id()}"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        topic = NewTopic(name, 3, 1, topic_configs={"retention.ms": "3600000"})
        assert (await admin.create_topics([topic])).topic_errors[0][1] == 0
        assert (await admin.create_topics([topic])).topic_errors[0][1] == TOPIC_ALREADY_EXISTS
        async with asyncio.timeout(5):
            while name not in await admin.list_topics():
                await asyncio.sleep(0.02)
    finally:
        await admin.close()


@pytest.mark.apache
async def test_topics_get_their_configuration(apache_bootstrap: str) -> None:
    """Only on Apache Kafka: the stand-in has no retention, and takes records of any size."""
    await ensure_topics(KafkaSettings(kafka_bootstrap=apache_bootstrap), TopicSettings())
    admin = AIOKafkaAdminClient(bootstrap_servers=apache_bootstrap)
    await admin.start()
    try:
        expected = {spec.name: spec.config(replication_factor=1) for spec in topic_specs(TopicSettings())}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in expected]
        for response in await admin.describe_configs(resources):
            for _, _, _, name, entries in response.resources:
                values = {entry[0]: entry[1] for entry in entries}
                assert {key: values[key] for key in expected[name]} == {
                    key: str(value) for key, value in expected[name].items()
                }
    finally:
        await admin.close()


async def test_a_graceful_restart_keeps_records_positions_and_generations(own_broker: Server) -> None:
    """The stand-in deviates: its generations start anew. So attempts must also exceed those that the log knows."""
    bootstrap = f"127.0.0.1:{own_broker.port}"
    topic = await create_topic(bootstrap, 2)
    tp = TopicPartition(topic, 0)
    group = f"group-{new_id()}"
    await produce(bootstrap, topic, [b"%d" % n for n in range(100)])
    async with Member(bootstrap, group, [topic]) as member:
        await until(lambda: len(member.records) == 100)
        await member.consumer.commit({tp: 60})
        before = member.generation
    await asyncio.to_thread(own_broker.stop)
    await asyncio.to_thread(own_broker.start)
    async with Member(bootstrap, group, [topic]) as member:
        await until(lambda: len(member.records) == 40)
        assert [record.offset for record in member.records] == list(range(60, 100))
        assert member.generation > before or isinstance(own_broker, NoidaBroker)
    assert await produce(bootstrap, topic, [b"after"]) == [100]


async def test_clients_live_through_a_graceful_restart(own_broker: Server) -> None:
    bootstrap = f"127.0.0.1:{own_broker.port}"
    topic = await create_topic(bootstrap)
    tp = TopicPartition(topic, 0)
    group = f"group-{new_id()}"
    async with (
        producing(bootstrap) as producer,
        consuming(bootstrap, tp) as reader,
        Member(bootstrap, group, [topic]) as member,
    ):
        await producer.send_and_wait(topic, b"before", partition=0)
        await take(reader, 1)
        await until(lambda: len(member.records) == 1)
        await member.consumer.commit({tp: 1})
        generation = member.generation
        await asyncio.to_thread(own_broker.stop)
        delayed = await producer.send(topic, b"during", partition=0)
        await asyncio.to_thread(own_broker.start)
        assert (await asyncio.wait_for(delayed, 20)).offset == 1
        assert [record.value for record in await take(reader, 1)] == [b"during"]
        await until(lambda: [record.value for record in member.records][-1] == b"during")
        await until(lambda: bool(member.owned))
        assert member.generations == sorted(member.generations)
        assert member.generation >= generation
