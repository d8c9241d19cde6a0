"""The self-healing producer, against real brokers that are away, frozen or confused."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaError, OutOfOrderSequenceNumber
from aiokafka.protocol.produce import ProduceRequest

from logue_common.consumer import stop_consumer
from logue_common.ids import new_id
from logue_common.producer import DeliveryUnknownError, NotSentError, Producer
from logue_common.topics import MAX_RECORD_BYTES, partition_of
from logue_devstack.noida import NoidaBroker
from logue_devstack.process import wait_until
from logue_devstack.server import free_ports


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[NoidaBroker]:
    """A stand-in broker that only this test uses; not started yet."""
    broker = NoidaBroker(tmp_path, free_ports(1)[0])
    yield broker
    broker.resume()
    broker.stop()


@pytest.fixture(autouse=True)
def _nothing_fails_behind_the_scenes(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No exception that nobody took, neither in a task nor in a callback of the loop."""
    yield
    gc.collect()
    noted = [record for phase in ("setup", "call") for record in caplog.get_records(phase)]
    assert [record.getMessage() for record in noted if record.name == "asyncio"] == []


def freeze(broker: NoidaBroker) -> None:
    """SIGSTOP, and every thread of it has stopped."""
    assert broker.child is not None
    broker.pause()
    threads = Path(f"/proc/{broker.child.id.pid}/task")

    def is_frozen() -> bool:
        return all((thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads.iterdir())

    assert wait_until(is_frozen, 5)


@asynccontextmanager
async def producing(bootstrap: str) -> AsyncIterator[Producer]:
    producer = Producer({"bootstrap_servers": bootstrap}, client_id="test")
    producer.start()
    try:
        yield producer
    finally:
        await producer.close()


async def new_topic(bootstrap: str, partitions: int = 1) -> str:
    topic = f"test.{new_id()}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        configs = {"max.message.bytes": str(MAX_RECORD_BYTES + 65536)}
        await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)])
    finally:
        await admin.close()
    return topic


async def values_of(bootstrap: str, topic: str, partitions: int = 1) -> list[bytes]:
    """Everything in the topic now, partition by partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=20)
    await consumer.start()
    try:
        tps = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        found: dict[TopicPartition, list[bytes]] = {tp: [] for tp in tps}
        async with asyncio.timeout(20):
            while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                for tp, records in (await consumer.getmany(timeout_ms=100)).items():
                    found[tp] += [record.value for record in records]
        return [value for tp in tps for value in found[tp]]
    finally:
        await stop_consumer(consumer)


async def send(producer: Producer, topic: str, value: str, *, seconds: float = 5.0) -> int:
    metadata = await producer.send(topic, key="k", value=value.encode(), headers=[], timeout_seconds=seconds)
    return int(metadata.offset)


async def test_a_record_arrives_with_key_value_headers_and_partition(broker: str) -> None:
    topic = await new_topic(broker, partitions=3)
    async with producing(broker) as producer:
        sent = await producer.send(topic, key="k", value=b"v", headers=[("h", b"1"), ("h", b"2")], partition=2)
    assert (sent.topic, sent.partition, sent.offset) == (topic, 2, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 2)])
        record = await asyncio.wait_for(consumer.getone(), 10)
    finally:
        await stop_consumer(consumer)
    assert (record.key, record.value, record.headers) == (b"k", b"v", (("h", b"1"), ("h", b"2")))


async def test_what_was_enqueued_is_on_its_way_when_it_was_let_go(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = await new_topic(broker)
    async with producing(broker) as producer:
        await send(producer, topic, "first")
        sent: list[type] = []
        send_request = AIOKafkaConnection.send

        def noting(connection: AIOKafkaConnection, request: object, **options: bool) -> object:
            sent.append(type(request))
            return send_request(connection, request, **options)

        monkeypatch.setattr(AIOKafkaConnection, "send", noting)
        for _ in range(20):  # the sender waits in one way or another
            sent.clear()
            delivery = await producer.enqueue(topic, key="k", value=b"v", headers=[])
            assert not sent, "it waits for the loop"
            await producer.let_go()
            assert sent == [ProduceRequest]
            await delivery


async def test_many_records_at_once_keep_their_order_and_go_where_single_ones_go(broker: str) -> None:
    topic = await new_topic(broker, partitions=3)
    keys = [f"user-{n % 7}" for n in range(3000)]  # more than one batch of 256 KiB for each partition
    values = [b"%d:" % n + b"x" * 500 for n in range(len(keys))]
    async with producing(broker) as producer:
        assert await producer.wait_connected(10)
        await producer.send_all(topic, [(k, v, [("h", b"1")]) for k, v in zip(keys, values, strict=True)])
        await producer.send_all(topic, [])
    expected = [v for number in range(3) for k, v in zip(keys, values, strict=True) if partition_of(k, 3) == number]
    assert await values_of(broker, topic, partitions=3) == expected


async def test_without_a_broker_nothing_is_sent_and_it_says_so() -> None:
    async with producing(f"127.0.0.1:{free_ports(1)[0]}") as producer:
        assert not producer.is_connected
        with pytest.raises(NotSentError):
            await producer.enqueue("topic", key="k", value=b"v", headers=[])
        with pytest.raises(NotSentError):
            await producer.send_all("topic", [("k", b"v", [])])
        began = time.monotonic()
        with pytest.raises(NotSentError):
            await send(producer, "topic", "v", seconds=0.3)
        assert 0.2 < time.monotonic() - began < 1


async def test_a_send_that_waits_goes_out_when_the_broker_comes(own_broker: NoidaBroker) -> None:
    async with producing(own_broker.bootstrap) as producer:
        assert not await producer.wait_connected(0.1)
        await asyncio.to_thread(own_broker.start)
        topic = await new_topic(own_broker.bootstrap)
        assert await send(producer, topic, "first") == 0
        assert producer.is_connected


async def test_records_survive_a_restart_of_the_broker_in_order(own_broker: NoidaBroker) -> None:
    await asyncio.to_thread(own_broker.start)
    topic = await new_topic(own_broker.bootstrap)
    async with producing(own_broker.bootstrap) as producer:
        await send(producer, topic, "before")
        await asyncio.to_thread(own_broker.stop)
        waiting = [asyncio.create_task(send(producer, topic, f"during-{n}", seconds=15)) for n in range(10)]
        await asyncio.sleep(0)
        await asyncio.to_thread(own_broker.start)
        await asyncio.gather(*waiting)
        await send(producer, topic, "after")
    values = await values_of(own_broker.bootstrap, topic)
    assert values == [b"before", *(b"during-%d" % n for n in range(10)), b"after"]


@pytest.mark.parametrize("together", [False, True])
async def test_a_frozen_broker_is_unknown_delivery_and_its_old_batch_is_never_sent_again(
    own_broker: NoidaBroker, together: bool
) -> None:
    await asyncio.to_thread(own_broker.start)
    topic = await new_topic(own_broker.bootstrap)
    async with producing(own_broker.bootstrap) as producer:
        await send(producer, topic, "before")
        freeze(own_broker)
        many = producer.send_all(topic, [("k", b"doubtful", [])], timeout_seconds=0.5)
        with pytest.raises(DeliveryUnknownError):
            await (many if together else send(producer, topic, "doubtful", seconds=0.5))
        many.close()
        assert not producer.is_connected
        later = asyncio.create_task(send(producer, topic, "after", seconds=15))
        await asyncio.sleep(1)
        own_broker.resume()
        await later
        for n in range(20):
            await send(producer, topic, f"then-{n}")
            await asyncio.sleep(0.02)
    values = await values_of(own_broker.bootstrap, topic)
    assert values.count(b"doubtful") <= 1
    assert [value for value in values if value != b"doubtful"] == [
        b"before",
        b"after",
        *(b"then-%d" % n for n in range(20)),
    ]
    if b"doubtful" in values:
        assert values.index(b"doubtful") == 1


async def test_every_record_that_a_dropped_producer_holds_fails_soon(own_broker: NoidaBroker) -> None:
    await asyncio.to_thread(own_broker.start)
    topic = await new_topic(own_broker.bootstrap, partitions=3)
    async with producing(own_broker.bootstrap) as producer:
        await send(producer, topic, "before")
        freeze(own_broker)
        held = [await producer.enqueue(topic, key="k", value=b"%d" % n, headers=[], partition=n % 3) for n in range(30)]
        await asyncio.sleep(0.2)
        began = time.monotonic()
        producer.replace()
        results = await asyncio.wait_for(asyncio.gather(*held, return_exceptions=True), 10)
        assert time.monotonic() - began < 1
        assert all(isinstance(result, KafkaError) for result in results)
        own_broker.resume()
        await send(producer, topic, "after", seconds=15)


async def test_records_held_while_the_broker_is_away_fail_when_the_producer_is_replaced(
    own_broker: NoidaBroker,
) -> None:
    """Their batches wait for a second try then: another place inside aiokafka."""
    await asyncio.to_thread(own_broker.start)
    topic = await new_topic(own_broker.bootstrap, partitions=3)
    async with producing(own_broker.bootstrap) as producer:
        await send(producer, topic, "before")
        await asyncio.to_thread(own_broker.kill)
        held = [await producer.enqueue(topic, key="k", value=b"%d" % n, headers=[], partition=n % 3) for n in range(30)]
        await asyncio.sleep(0.5)
        began = time.monotonic()
        producer.replace()
        results = await asyncio.wait_for(asyncio.gather(*held, return_exceptions=True), 10)
        assert time.monotonic() - began < 1
        assert all(isinstance(result, KafkaError) for result in results)


async def test_a_fatal_producer_error_leads_to_another_producer(broker: str) -> None:
    """A real one: a gap in the sequence numbers, as after a broker lost its tail."""
    topic = await new_topic(broker)
    async with producing(broker) as producer:
        await send(producer, topic, "before")
        broken = producer._current
        assert broken is not None
        broken._txn_manager.increment_sequence_number(TopicPartition(topic, 0), 7)
        with pytest.raises(DeliveryUnknownError, match=OutOfOrderSequenceNumber.__name__):
            await send(producer, topic, "refused")
        await send(producer, topic, "after")
        assert producer._current is not broken
    assert await values_of(broker, topic) == [b"before", b"after"]


async def test_a_producer_whose_sender_died_unnoticed_is_replaced(noida_broker: NoidaBroker) -> None:
    topic = await new_topic(noida_broker.bootstrap)
    async with producing(noida_broker.bootstrap) as producer:
        await send(producer, topic, "before")
        broken = producer._current
        assert broken is not None
        broken._message_accumulator.fail_all(KafkaError("the sender died"))
        with pytest.raises(NotSentError):
            await send(producer, topic, "refused")
        await send(producer, topic, "after")
    assert await values_of(noida_broker.bootstrap, topic) == [b"before", b"after"]


async def test_order_within_a_partition_holds_for_ten_thousand_records(broker: str) -> None:
    topic = await new_topic(broker, partitions=4)
    async with producing(broker) as producer:
        assert await producer.wait_connected(10)
        for n in range(10_000):
            delivery = await producer.enqueue(topic, key="k", value=b"%d" % n, headers=[], partition=n % 4)
        await producer.flush(20)
        assert delivery.done()
    assert await values_of(broker, topic, 4) == [b"%d" % n for p in range(4) for n in range(p, 10_000, 4)]


async def test_a_record_of_almost_4_mib_arrives_and_a_larger_one_is_not_sent(broker: str) -> None:
    topic = await new_topic(broker)
    async with producing(broker) as producer:
        await send(producer, topic, "x" * (MAX_RECORD_BYTES - 1024))
        with pytest.raises(NotSentError):
            await send(producer, topic, "x" * (MAX_RECORD_BYTES + 1))
        assert await send(producer, topic, "after") == 1


async def test_a_partition_that_does_not_exist_is_not_sent_to(noida_broker: NoidaBroker) -> None:
    topic = await new_topic(noida_broker.bootstrap)
    async with producing(noida_broker.bootstrap) as producer:
        assert await producer.wait_connected(10)
        with pytest.raises(NotSentError):
            await producer.enqueue(topic, key="k", value=b"v", headers=[], partition=9)
        with pytest.raises(NotSentError):
            await producer.send(topic, key="k", value=b"v", headers=[], partition=9)
        assert producer.is_connected


@pytest.mark.apache
async def test_a_topic_that_does_not_exist_is_not_sent_to(apache_bootstrap: str) -> None:
    """Only on Apache Kafka: the stand-in creates any topic that is asked for."""
    async with producing(apache_bootstrap) as producer:
        assert await producer.wait_connected(10)
        with pytest.raises(NotSentError):
            await send(producer, f"test.{new_id()}", "v", seconds=0.5)
        assert producer.is_connected


async def test_a_cancelled_send_leaves_the_producer_as_it_was(noida_broker: NoidaBroker) -> None:
    topic = await new_topic(noida_broker.bootstrap)
    async with producing(noida_broker.bootstrap) as producer:
        await send(producer, topic, "before")
        kept = producer._current
        sending = asyncio.create_task(send(producer, topic, "cancelled"))
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait([sending])
        await send(producer, topic, "after")
        assert producer._current is kept
    values = await values_of(noida_broker.bootstrap, topic)
    assert [value for value in values if value != b"cancelled"] == [b"before", b"after"]


@pytest.mark.parametrize("state", ["never there", "frozen from the start", "frozen", "gone"])
async def test_close_does_not_hang(own_broker: NoidaBroker, state: str) -> None:
    if state != "never there":
        await asyncio.to_thread(own_broker.start)
    if state == "frozen from the start":
        freeze(own_broker)
    producer = Producer({"bootstrap_servers": own_broker.bootstrap}, client_id="test")
    producer.start()
    if state in ("frozen", "gone"):
        topic = await new_topic(own_broker.bootstrap)
        await send(producer, topic, "before")
        if state == "frozen":
            freeze(own_broker)
        else:
            await asyncio.to_thread(own_broker.kill)
        held = await producer.enqueue(topic, key="k", value=b"held", headers=[])
    await asyncio.sleep(0.3)
    began = time.monotonic()
    await producer.close()
    assert time.monotonic() - began < 6.5, "5 s to flush, and little more"
    assert not producer.is_connected
    if state in ("frozen", "gone"):
        assert isinstance(held.exception(), KafkaError)
    with pytest.raises(NotSentError):
        await send(producer, "topic", "v", seconds=0.1)


async def test_close_delivers_what_was_enqueued(noida_broker: NoidaBroker) -> None:
    topic = await new_topic(noida_broker.bootstrap)
    producer = Producer({"bootstrap_servers": noida_broker.bootstrap}, client_id="test")
    producer.start()
    assert await producer.wait_connected(10)
    await asyncio.gather(*[producer.enqueue(topic, key="k", value=b"%d" % n, headers=[]) for n in range(100)])
    await producer.close()
    assert await values_of(noida_broker.bootstrap, topic) == [b"%d" % n for n in range(100)]


async def test_closing_twice_and_starting_late_do_nothing(noida_broker: NoidaBroker) -> None:
    producer = Producer({"bootstrap_servers": noida_broker.bootstrap}, client_id="test")
    await producer.close()
    producer.start()
    await producer.close()
    assert not await producer.wait_connected(0.1)


@pytest.fixture(autouse=True)
def _quiet_aiokafka(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "aiokafka")
