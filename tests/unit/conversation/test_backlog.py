"""Batches in the order of time, from fetches that are not."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from logue_common.topics import CHAT_REPLIED, CHAT_REQUESTED
from logue_conversation import backlog as backlog_module
from logue_conversation.backlog import Backlog

REQUESTED, REPLIED = TopicPartition(CHAT_REQUESTED, 0), TopicPartition(CHAT_REPLIED, 0)
FAR_AHEAD = 10**15


@dataclass
class Record:
    offset: int
    timestamp: int


def log(*timestamps: int) -> list[Record]:
    return [Record(offset, timestamp) for offset, timestamp in enumerate(timestamps)]


def test_a_batch_has_of_each_partition_what_happened_at_the_same_time() -> None:
    backlog = Backlog()
    backlog.add({REQUESTED: log(1, 3, 5, 7), REPLIED: log(2, 4, 6, 8)})  # type: ignore[dict-item]
    taken = backlog.take(4)
    assert {tp: [r.timestamp for r in records] for tp, records in taken.items()} == {REQUESTED: [1, 3], REPLIED: [2, 4]}
    assert backlog.partitions == {REQUESTED, REPLIED}


@given(st.lists(st.lists(st.integers(0, 50)), min_size=1, max_size=4), st.integers(1, 10), st.lists(st.integers(0, 3)))
def test_every_record_comes_once_and_each_partition_in_its_order(
    logs: list[list[int]], limit: int, later: list[int]
) -> None:
    """Whatever the timestamps are, and whenever more is fetched."""
    backlog = Backlog()
    polls = {TopicPartition(CHAT_REQUESTED, n): log(*times) for n, times in enumerate(logs)}
    found: dict[TopicPartition, list[int]] = {partition: [] for partition in polls}

    def take() -> int:
        taken = backlog.take(limit)
        for partition, records in taken.items():
            found[partition] += [record.offset for record in records]
        return sum(map(len, taken.values()))

    for number in [*later, *range(4)]:  # one partition after the other is fetched, some of them late
        partition = TopicPartition(CHAT_REQUESTED, number)
        if partition in polls:
            backlog.add({partition: polls.pop(partition)})  # type: ignore[dict-item]
        assert take() <= limit
    while backlog:
        assert 0 < take() <= limit
    assert all(offsets == list(range(len(logs[tp.partition]))) for tp, offsets in found.items())


def test_a_clock_that_is_ahead_holds_no_record_back_for_ever() -> None:
    backlog = Backlog()
    backlog.add({REPLIED: log(FAR_AHEAD)})  # type: ignore[dict-item]
    backlog.add({REQUESTED: log(FAR_AHEAD + 1, FAR_AHEAD + 2)})  # type: ignore[dict-item]
    assert list(backlog.take(1)) == [REPLIED]


def test_a_clock_that_is_behind_holds_nobody_elses_records_back_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10**12
    monkeypatch.setattr(backlog_module, "_now", lambda: now)
    backlog = Backlog()
    backlog.add({REQUESTED: log(*range(1000)), REPLIED: log(now)})  # type: ignore[dict-item]
    assert list(backlog.take(10)) == [REQUESTED]
    now += 2_000
    backlog.take(990)
    backlog.add({REQUESTED: log(*range(1000))})  # type: ignore[dict-item]
    now += 4_000
    assert list(backlog.take(10)) == [REPLIED, REQUESTED]


def test_a_partition_begins_where_it_was_taken_to() -> None:
    backlog = Backlog()
    backlog.add({REQUESTED: log(1, 2, 3)})  # type: ignore[dict-item]
    backlog.take(2)
    assert backlog.begins_at(REQUESTED, 3) == 2
    assert backlog.begins_at(REPLIED, 7) == 7


def test_what_is_forgotten_is_not_given_out() -> None:
    backlog = Backlog()
    backlog.add({REQUESTED: log(1)})  # type: ignore[dict-item]
    backlog.clear()
    assert not backlog
    assert backlog.take(1) == {}
