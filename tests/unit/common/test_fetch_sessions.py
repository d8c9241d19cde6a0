"""Fetch sessions: whatever is asked for, answered or lost, the broker's memory is what the consumer wants."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from tests.integration.brokers.kit import create_topic, produce

from logue_common.consumer import stop_consumer, tune_fetches
from logue_common.fetch_sessions import FetchSession, Plan

PARTITIONS = st.tuples(st.sampled_from(["requested", "replied"]), st.integers(0, 3))
WANTED = st.dictionaries(PARTITIONS, st.tuples(st.integers(0, 5), st.just(1024)), max_size=8)
NOT_FOUND, WRONG_EPOCH = 70, 71


class Broker:
    """Sessions as KIP-227 has them."""

    def __init__(self) -> None:
        self.sessions: dict[int, tuple[int, dict[tuple[str, int], tuple[int, int]]]] = {}
        self.next_id = 1

    def fetch(self, plan: Plan) -> tuple[int, int, dict[tuple[str, int], tuple[int, int]]]:
        """Error, session, and all partitions that this fetch is about."""
        if plan.epoch == 0:
            self.sessions.pop(plan.session_id, None)
            self.sessions[self.next_id] = (1, dict(plan.changed))
            self.next_id += 1
            return 0, self.next_id - 1, dict(plan.changed)
        if plan.session_id not in self.sessions:
            return NOT_FOUND, 0, {}
        epoch, known = self.sessions[plan.session_id]
        if plan.epoch != epoch:
            return WRONG_EPOCH, 0, {}
        known |= plan.changed
        for partition in plan.forgotten:
            del known[partition]
        self.sessions[plan.session_id] = (epoch + 1, known)
        return 0, plan.session_id, dict(known)


@given(st.lists(st.tuples(WANTED, st.sampled_from(["answered", "answered", "answered", "lost", "evicted"]))))
def test_every_answered_fetch_is_about_exactly_what_was_wanted(steps: list) -> None:
    session, broker = FetchSession(), Broker()
    for wanted, fate in steps:
        error, session_id, asked_for = broker.fetch(session.plan(wanted))
        assert error in (0, NOT_FOUND)
        if error == 0:
            assert asked_for == wanted
        if fate == "lost":
            session.lost()
        else:
            session.answered(error, session_id)
        if fate == "evicted":
            broker.sessions.clear()


@given(st.lists(WANTED, min_size=1))
def test_a_broker_without_sessions_is_asked_for_everything_each_time(steps: list) -> None:
    session = FetchSession()
    for wanted in steps:
        assert session.plan(wanted) == Plan(0, 0, wanted, [])
        session.answered(0, 0)


def test_only_what_changed_is_said_again() -> None:
    session = FetchSession()
    session.plan({("a", 0): (1, 9), ("a", 1): (1, 9)})
    session.answered(0, 7)
    assert session.plan({("a", 0): (2, 9), ("a", 1): (1, 9)}) == Plan(7, 1, {("a", 0): (2, 9)}, [])
    session.answered(0, 7)
    assert session.plan({("a", 1): (1, 9)}) == Plan(7, 2, {}, [("a", 0)])


def test_a_session_whose_answer_was_lost_is_closed_by_the_next_request() -> None:
    session = FetchSession()
    session.plan({("a", 0): (1, 9)})
    session.answered(0, 7)
    session.lost()
    assert session.plan({("a", 0): (1, 9)}) == Plan(7, 0, {("a", 0): (1, 9)}, [])
    session.answered(0, 8)
    assert session.plan({}) == Plan(8, 1, {}, [("a", 0)])


async def test_pauses_and_seeks_lose_and_repeat_nothing(broker: str) -> None:
    topic = await create_topic(broker, 3)
    partitions = [TopicPartition(topic, number) for number in range(3)]
    for partition in range(3):
        await produce(broker, topic, [b"%d" % n for n in range(20)], partition)
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, fetch_max_wait_ms=50, auto_offset_reset="earliest")
    await consumer.start()
    try:
        tune_fetches(consumer)
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, 0)
        read: dict[int, list[int]] = {0: [], 1: [], 2: []}

        async def read_until(count: int) -> None:
            while sum(map(len, read.values())) < count:
                for tp, records in (await consumer.getmany(timeout_ms=200, max_records=7)).items():
                    read[tp.partition] += [int(record.value) for record in records]

        await read_until(20)
        consumer.pause(partitions[0])
        seen = len(read[0])
        for partition in range(3):
            await produce(broker, topic, [b"%d" % n for n in range(20, 30)], partition)
        await read_until(60 + seen)
        assert len(read[0]) == seen
        consumer.resume(partitions[0])
        await read_until(90)
        assert read == {number: list(range(30)) for number in range(3)}
        consumer.seek(partitions[1], 25)
        await read_until(95)
        assert read[1] == [*range(30), *range(25, 30)]
    finally:
        await stop_consumer(consumer)
