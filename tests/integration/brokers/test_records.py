"""What Logue needs of a broker's log: records, positions, times."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError, OutOfOrderSequenceNumber
from tests.integration.brokers.kit import consuming, create_topic, produce, producing, take

from logue_common.topics import MAX_RECORD_BYTES, partition_of


async def test_key_value_headers_and_time_come_back_as_sent(broker: str) -> None:
    topic = await create_topic(broker)
    headers = [("user", "Zoë".encode()), ("n", b"1"), ("n", b"2"), ("empty", b"")]
    async with producing(broker) as producer:
        sent = await producer.send_and_wait(
            topic, b"\x00\xff", key=b"key", headers=headers, timestamp_ms=1_700_000_000_123
        )
        await producer.send_and_wait(topic, None, key=b"key")
        await producer.send_and_wait(topic, b"", key=None)
    assert (sent.partition, sent.offset) == (0, 0)
    async with consuming(broker, TopicPartition(topic, 0)) as consumer:
        first, second, third = await take(consumer, 3)
    assert (first.key, first.value, first.timestamp) == (b"key", b"\x00\xff", 1_700_000_000_123)
    assert list(first.headers) == headers
    assert (second.value, second.offset) == (None, 1)
    assert (third.key, third.value, third.headers) == (None, b"", ())


async def test_explicit_partitions_are_kept_and_keys_choose_the_same_one_everywhere(broker: str) -> None:
    topic = await create_topic(broker, partitions=12)
    keys = [f"conversation-{n}" for n in range(30)]
    async with producing(broker) as producer:
        for partition in range(12):
            sent = await producer.send_and_wait(topic, b"v", key=b"k", partition=partition)
            assert (sent.partition, sent.offset) == (partition, 0)
        chosen = {key: (await producer.send_and_wait(topic, b"v", key=key.encode())).partition for key in keys}
    assert chosen == {key: partition_of(key, 12) for key in keys}


async def test_offsets_of_a_partition_are_gapless_and_in_the_order_of_sending(broker: str) -> None:
    topic = await create_topic(broker)
    offsets = await produce(broker, topic, [b"%d" % n for n in range(2000)])
    assert offsets == list(range(2000))
    async with consuming(broker, TopicPartition(topic, 0)) as consumer:
        records = await take(consumer, 2000)
    assert [(record.offset, record.value) for record in records] == [(n, b"%d" % n) for n in range(2000)]


async def test_a_gap_in_the_sequence_of_an_idempotent_producer_is_refused(broker: str) -> None:
    """So the broker does check: what a producer lost cannot be skipped unnoticed."""
    topic = await create_topic(broker)
    async with producing(broker) as producer:
        await producer.send_and_wait(topic, b"0", partition=0)
        producer._txn_manager.increment_sequence_number(TopicPartition(topic, 0), 3)
        with pytest.raises(OutOfOrderSequenceNumber):
            await producer.send_and_wait(topic, b"1", partition=0)
    async with consuming(broker, TopicPartition(topic, 0)) as consumer:
        assert await consumer.end_offsets([TopicPartition(topic, 0)]) == {TopicPartition(topic, 0): 1}


async def test_a_batch_that_is_sent_twice_is_stored_once(broker: str) -> None:
    """As after a lost acknowledgement: same producer, same sequence numbers."""
    topic = await create_topic(broker)
    tp = TopicPartition(topic, 0)
    async with producing(broker) as producer:
        first = await producer.send_and_wait(topic, b"0", partition=0)
        producer._txn_manager._sequence_numbers[tp] = 0
        again = await producer.send_and_wait(topic, b"0", partition=0)
        await producer.send_and_wait(topic, b"1", partition=0)
    assert first.offset == 0
    assert again.offset in (0, -1)
    async with consuming(broker, tp) as consumer:
        assert [record.value for record in await take(consumer, 2)] == [b"0", b"1"]
        assert await consumer.end_offsets([tp]) == {tp: 2}


async def test_records_of_almost_4_mib_pass(broker: str) -> None:
    topic = await create_topic(broker, **{"max.message.bytes": str(MAX_RECORD_BYTES + 65536)})
    values = [bytes([n]) * (MAX_RECORD_BYTES - 1024) for n in range(3)]
    async with producing(broker, max_request_size=MAX_RECORD_BYTES) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
    async with consuming(broker, TopicPartition(topic, 0)) as consumer:
        assert [record.value for record in await take(consumer, 3)] == values


async def test_a_large_record_passes_a_consumer_that_fetches_little_at_once(broker: str) -> None:
    """KIP-74: the first record of a fetch comes whole, whatever the limit, or a partition would be stuck."""
    topic = await create_topic(broker, **{"max.message.bytes": str(MAX_RECORD_BYTES + 65536)})
    tp = TopicPartition(topic, 0)
    async with producing(broker, max_request_size=MAX_RECORD_BYTES) as producer:
        await producer.send_and_wait(topic, b"x" * 3_000_000, partition=0)
        await producer.send_and_wait(topic, b"after", partition=0)
    async with consuming(broker, tp, max_partition_fetch_bytes=64 * 1024, fetch_max_bytes=64 * 1024) as consumer:
        assert [len(record.value) for record in await take(consumer, 2)] == [3_000_000, 5]


async def test_several_partitions_are_assigned_by_hand_without_a_group(broker: str) -> None:
    topic = await create_topic(broker, partitions=4)
    for partition in range(4):
        await produce(broker, topic, [b"%d" % partition], partition)
    async with consuming(broker, TopicPartition(topic, 1), TopicPartition(topic, 3)) as consumer:
        assert sorted(record.value for record in await take(consumer, 2)) == [b"1", b"3"]
        consumer.assign([TopicPartition(topic, 0)])
        assert [record.value for record in await take(consumer, 1)] == [b"0"]
        assert consumer._coordinator is None or consumer._group_id is None


async def test_seek_goes_anywhere_in_the_log(broker: str) -> None:
    topic = await create_topic(broker)
    tp = TopicPartition(topic, 0)
    await produce(broker, topic, [b"%d" % n for n in range(50)])
    async with consuming(broker, tp) as consumer:
        for position in (49, 0, 25, 24):
            consumer.seek(tp, position)
            [record] = await take(consumer, 1)
            assert record.offset == position
        await consumer.seek_to_end(tp)
        assert await consumer.position(tp) == 50
        await consumer.seek_to_beginning(tp)
        assert await consumer.position(tp) == 0


async def test_a_seek_discards_what_was_fetched_before(broker: str) -> None:
    topic = await create_topic(broker)
    tp = TopicPartition(topic, 0)
    await produce(broker, topic, [b"%d" % n for n in range(50)])
    async with consuming(broker, tp) as consumer:
        assert [record.offset for record in await take(consumer, 3)] == [0, 1, 2]
        consumer.seek(tp, 40)
        assert [record.offset for record in await take(consumer, 2)] == [40, 41]


async def test_ends_and_beginnings_are_those_of_the_log(broker: str) -> None:
    topic = await create_topic(broker, partitions=2)
    tps = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    async with consuming(broker) as consumer:
        assert await consumer.end_offsets(tps) == dict.fromkeys(tps, 0)
        await produce(broker, topic, [b"v"] * 3, partition=1)
        assert await consumer.end_offsets(tps) == {tps[0]: 0, tps[1]: 3}
        assert await consumer.beginning_offsets(tps) == dict.fromkeys(tps, 0)


async def test_an_acknowledged_record_is_before_the_end_that_anyone_sees(broker: str) -> None:
    """The conversation service answers "not found" by it."""
    topic = await create_topic(broker)
    tp = TopicPartition(topic, 0)
    async with producing(broker) as producer, consuming(broker) as consumer:
        for n in range(30):
            await producer.send_and_wait(topic, b"v", partition=0)
            assert (await consumer.end_offsets([tp]))[tp] == n + 1


async def test_positions_are_found_by_time(broker: str) -> None:
    topic = await create_topic(broker, partitions=2)
    tp, empty = TopicPartition(topic, 0), TopicPartition(topic, 1)
    base = int(time.time() * 1000) - 60_000
    async with producing(broker) as producer:
        for n in range(10):
            await producer.send_and_wait(topic, b"v", partition=0, timestamp_ms=base + n * 1000)
    async with consuming(broker) as consumer:

        async def at(moment: int) -> int | None:
            found = (await consumer.offsets_for_times({tp: moment}))[tp]
            return None if found is None else found.offset

        assert await at(base - 5000) == 0
        assert await at(base + 4000) == 4
        assert await at(base + 4001) == 5
        assert await at(base + 9000) == 9
        assert await at(base + 9001) is None
        assert (await consumer.offsets_for_times({empty: base}))[empty] is None


async def test_positions_are_found_by_time_within_a_batch(broker: str) -> None:
    """Frames go in batches: a position at the start of the batch would be right but late, one behind it wrong."""
    topic = await create_topic(broker)
    tp = TopicPartition(topic, 0)
    base = int(time.time() * 1000) - 60_000
    async with producing(broker, linger_ms=100) as producer:
        sent = [await producer.send(topic, b"v", partition=0, timestamp_ms=base + n * 1000) for n in range(10)]
        await asyncio.gather(*sent)
    async with consuming(broker) as consumer:
        found = (await consumer.offsets_for_times({tp: base + 4000}))[tp]
    assert found is not None
    assert found.offset <= 4


async def test_a_paused_partition_rests_while_others_go_on(broker: str) -> None:
    topic = await create_topic(broker, partitions=2)
    rests, goes = TopicPartition(topic, 0), TopicPartition(topic, 1)
    async with consuming(broker, rests, goes) as consumer:
        consumer.pause(rests)
        await produce(broker, topic, [b"a", b"b"], 0)
        await produce(broker, topic, [b"c", b"d"], 1)
        assert [record.value for record in await take(consumer, 2)] == [b"c", b"d"]
        assert await consumer.getmany(timeout_ms=300) == {}
        consumer.resume(rests)
        assert [record.value for record in await take(consumer, 2)] == [b"a", b"b"]


@pytest.mark.parametrize(("policy", "continues_at"), [("earliest", 0), ("latest", 3)])
async def test_a_position_outside_the_log_is_reset_as_the_policy_says(
    broker: str, policy: str, continues_at: int
) -> None:
    topic = await create_topic(broker)
    tp = TopicPartition(topic, 0)
    await produce(broker, topic, [b"v"] * 3)
    async with consuming(broker, tp, auto_offset_reset=policy) as consumer:
        consumer.seek(tp, 1000)
        getting = asyncio.create_task(consumer.getone())
        await asyncio.sleep(0.5)
        await produce(broker, topic, [b"w"])
        record = await asyncio.wait_for(getting, 10)
    assert record.offset == continues_at


async def test_a_position_outside_the_log_is_reported_where_there_is_no_policy(broker: str) -> None:
    """The gateway's resume of a stale id depends on it: after the stand-in lost its tail, ids point behind the end."""
    topic = await create_topic(broker)
    tp = TopicPartition(topic, 0)
    await produce(broker, topic, [b"v"] * 3)
    async with consuming(broker, tp, auto_offset_reset="none") as consumer:
        consumer.seek(tp, 1000)
        with pytest.raises(OffsetOutOfRangeError) as caught:
            await asyncio.wait_for(consumer.getone(), 10)
        assert caught.value.args[0] == {tp: 1000}
        consumer.seek(tp, 2)
        assert (await asyncio.wait_for(consumer.getone(), 10)).offset == 2


async def test_a_position_at_the_end_waits_for_the_next_record(broker: str) -> None:
    topic = await create_topic(broker)
    tp = TopicPartition(topic, 0)
    await produce(broker, topic, [b"v"] * 3)
    async with consuming(broker, tp, auto_offset_reset="none") as consumer:
        consumer.seek(tp, 3)
        assert await consumer.getmany(timeout_ms=300) == {}
        await produce(broker, topic, [b"next"])
        assert (await asyncio.wait_for(consumer.getone(), 10)).value == b"next"


async def test_a_record_reaches_a_waiting_consumer_at_once(broker: str) -> None:
    """Long polling: tokens must not wait for the next poll. The bound is loose, for slow machines."""
    topic = await create_topic(broker)
    tp = TopicPartition(topic, 0)
    delays = []
    async with producing(broker) as producer, consuming(broker, tp) as consumer:
        await producer.send_and_wait(topic, b"warm", partition=0)
        await take(consumer, 1)
        for _ in range(20):
            getting = asyncio.create_task(consumer.getone())
            await asyncio.sleep(0.02)
            began = time.monotonic()
            await producer.send(topic, b"v", partition=0)
            await asyncio.wait_for(getting, 10)
            delays.append(time.monotonic() - began)
    assert sorted(delays)[10] < 0.05
