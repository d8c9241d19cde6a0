"""Consumers on both brokers: idle ones rest, and a refused commit does not harm the group."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError
from tests.integration.brokers.kit import create_topic, produce, producing

from logue_common.consumer import commit, stop_consumer, tune_fetches


@pytest.mark.parametrize("records", [0, 5])
async def test_an_idle_consumer_asks_seldom(broker: str, records: int) -> None:
    topic = await create_topic(broker, 2)
    for partition in range(2 if records else 0):
        await produce(broker, topic, [b"v"] * records, partition)
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, fetch_max_wait_ms=50)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0), TopicPartition(topic, 1)])
        asked = 0
        send = consumer._client.send

        async def counted(*arguments: object, **options: object) -> object:
            nonlocal asked
            asked += 1
            return await send(*arguments, **options)

        consumer._client.send = counted
        tune_fetches(consumer)
        await consumer.getmany(timeout_ms=600)
        asked = 0
        await consumer.getmany(timeout_ms=1000)
        assert 0 < asked <= 250
    finally:
        await stop_consumer(consumer)


async def test_a_paced_consumer_gets_records_soon_and_in_order(broker: str) -> None:
    topic = await create_topic(broker)
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, fetch_max_wait_ms=50, auto_offset_reset="earliest")
    await consumer.start()
    try:
        tune_fetches(consumer)
        consumer.assign([TopicPartition(topic, 0)])
        delays = []
        async with producing(broker) as producer:
            await producer.send_and_wait(topic, b"warm", partition=0)
            await consumer.getone()
            for n in range(20):
                await asyncio.sleep(0.05)
                began = time.monotonic()
                await producer.send(topic, b"%d" % n, partition=0)
                assert (await asyncio.wait_for(consumer.getone(), 10)).value == b"%d" % n
                delays.append(time.monotonic() - began)
        assert sorted(delays)[10] < 0.03
    finally:
        await stop_consumer(consumer)


async def test_a_paced_consumer_stops_at_once(broker: str) -> None:
    topic = await create_topic(broker)
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, fetch_max_wait_ms=50)
    await consumer.start()
    tune_fetches(consumer)
    consumer.assign([TopicPartition(topic, 0)])
    await asyncio.sleep(0.3)
    await asyncio.wait_for(stop_consumer(consumer), 2)


@pytest.mark.parametrize("steps", range(5))
async def test_a_consumer_stops_while_partitions_are_being_assigned(broker: str, steps: int) -> None:
    """aiokafka's own `stop` never returns after one or two steps of the loop: what it cancels swallows that."""
    topic = await create_topic(broker)
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, group_id=f"group-{topic}", enable_auto_commit=False)
    await consumer.start()
    consumer.subscribe([topic])
    async with asyncio.timeout(15):
        while not consumer.assignment():
            await consumer.getmany(timeout_ms=50)
    await consumer.getmany(timeout_ms=100)
    coordinator = consumer._coordinator
    consumer._coordinator = None
    await coordinator.close()
    consumer._subscription.assign_from_subscribed([TopicPartition(topic, 0)])
    for _ in range(steps):
        await asyncio.sleep(0)
    await asyncio.wait_for(stop_consumer(consumer), 4)
    assert consumer._client._sync_task is None, "stopped to its end"


async def test_a_refused_commit_keeps_the_member_and_says_so(broker: str) -> None:
    topic = await create_topic(broker)
    tp = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, group_id=f"group-{topic}", enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.subscribe([topic])
        async with asyncio.timeout(15):
            while not consumer.assignment():
                await consumer.getmany(timeout_ms=50)
        await commit(consumer, {tp: 0})
        coordinator = consumer._coordinator
        member = coordinator.member_id
        coordinator.generation += 1
        with pytest.raises(CommitFailedError):
            await commit(consumer, {tp: 0})
        coordinator.generation += 1
        # The first is refused, the others as long as the group has not taken the member back.
        refused = await asyncio.gather(*(commit(consumer, {tp: 0}) for _ in range(3)), return_exceptions=True)
        assert {type(error) for error in refused} <= {CommitFailedError, type(None)}
        assert coordinator.member_id == member
        assert "reset_generation" not in vars(coordinator)
    finally:
        await stop_consumer(consumer)


@pytest.mark.apache
async def test_a_member_that_the_broker_does_not_know_joins_anew(apache_bootstrap: str) -> None:
    """Only on Apache Kafka: the stand-in never drops the member that is left over."""
    broker = apache_bootstrap
    topic = await create_topic(broker)
    tp = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker, group_id=f"group-{topic}", enable_auto_commit=False, session_timeout_ms=6000
    )
    await consumer.start()
    try:
        consumer.subscribe([topic])
        async with asyncio.timeout(15):
            while not consumer.assignment():
                await consumer.getmany(timeout_ms=50)
        consumer._coordinator.member_id = "nobody"
        with pytest.raises(CommitFailedError):
            await commit(consumer, {tp: 0})
        async with asyncio.timeout(30):
            while consumer._coordinator.member_id in ("", "nobody") or not consumer.assignment():
                await consumer.getmany(timeout_ms=50)
            await asyncio.sleep(0.2)
    finally:
        await stop_consumer(consumer)


async def test_a_stop_that_breaks_off_halfway_leaves_nothing_behind(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when aiokafka lets the cancellation of a fetch escape, and never gets to its client."""
    before = asyncio.all_tasks()
    consumer = AIOKafkaConsumer(bootstrap_servers=broker)
    await consumer.start()

    async def broken_off() -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(consumer._fetcher, "close", broken_off)
    await stop_consumer(consumer)
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()
    assert consumer._client._conns == {}


async def test_a_consumer_that_cannot_be_stopped_leaves_nothing_behind(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when aiokafka's client waits for metadata that nobody fetches: its coordinator never comes to an end."""
    monkeypatch.setattr("logue_common.consumer._STOP_SECONDS", 0.5)
    topic = await create_topic(broker)
    options = {"bootstrap_servers": broker, "group_id": f"group-{topic}", "enable_auto_commit": False}
    before = asyncio.all_tasks()
    consumer = AIOKafkaConsumer(topic, **options)
    await consumer.start()
    await consumer.getmany(timeout_ms=500)
    assert consumer.assignment()
    consumer._client._sync_task.cancel()
    consumer._client.force_metadata_update()
    consumer._coordinator.request_rejoin()
    await asyncio.sleep(0.5)
    await asyncio.wait_for(stop_consumer(consumer), 5)
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()
    another = AIOKafkaConsumer(topic, **options)
    await another.start()
    try:
        async with asyncio.timeout(5):  # less than a session: the group does not wait for the first one
            while not another.assignment():
                await another.getmany(timeout_ms=50)
    finally:
        await stop_consumer(another)
