from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logue_gateway.streams.reader import own_partitions
from logue_gateway.streams.replay import MAX_SPAN_RECORDS, Start, start_position


@pytest.mark.parametrize(
    ("offset", "position"),
    [(100, 100), (150, 150), (200, 200), (201, None), (99, None)],
)
def test_an_exact_position_is_served_or_lost(offset: int, position: int | None) -> None:
    assert start_position(Start(0, offset, exact=True), begin=100, end=200, rewind=180) == position


def test_a_position_too_long_ago_is_lost() -> None:
    end = MAX_SPAN_RECORDS + 1
    assert start_position(Start(0, 0, exact=True), begin=0, end=end, rewind=end) is None


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_an_origin_is_served_from_a_moment_ago_at_most(offset: int, begin: int, length: int, rewind: int) -> None:
    end = begin + length
    position = start_position(Start(0, offset), begin=begin, end=end, rewind=rewind)
    assert position is not None
    assert begin <= position <= end
    assert position == end or position >= offset


@given(st.integers(0, 50), st.integers(1, 20), st.integers(1, 64))
def test_every_instance_owns_partitions_that_exist(index: int, count: int, total: int) -> None:
    owned = own_partitions(index, count, total)
    assert len(owned) == min(count, total)
    assert all(0 <= number < total for number in owned)


def test_instances_share_nothing_while_there_are_enough() -> None:
    owned = [set(own_partitions(index, 4, 16)) for index in range(4)]
    assert set.union(*owned) == set(range(16))
    assert sum(map(len, owned)) == 16
