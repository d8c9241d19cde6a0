"""Topics: the key decides the partition, everywhere alike."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from logue_common.errors import StartupError
from logue_common.topics import CHAT_CANCELS, CO_PARTITIONED, check_co_partitioning, partition_of


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(min_value=1, max_value=300))
def test_a_key_gets_the_partition_that_the_producer_picks(key: str, partitions: int) -> None:
    all_partitions = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key.encode(), all_partitions, all_partitions)


def test_equal_counts_are_the_common_count() -> None:
    assert check_co_partitioning({**dict.fromkeys(CO_PARTITIONED, 12), "chat.stream": 16}) == 12


@pytest.mark.parametrize("cancels", [None, 0, 11])
def test_missing_or_unequal_topics_refuse_the_start_with_what_to_do(cancels: int | None) -> None:
    counts = dict.fromkeys(CO_PARTITIONED, 12)
    if cancels is None:
        del counts[CHAT_CANCELS]
    else:
        counts[CHAT_CANCELS] = cancels
    with pytest.raises(StartupError, match=rf"chat\.cancels={cancels or 0}.*python -m logue_common\.topics"):
        check_co_partitioning(counts)
