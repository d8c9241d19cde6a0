"""A produce request is what aiokafka would have sent."""

from __future__ import annotations

from aiokafka.protocol.produce import ProduceRequest, ProduceRequest_v7
from hypothesis import given
from hypothesis import strategies as st

from logue_common import producer
from logue_common.quick_requests import QuickProduceRequest

_partitions = st.lists(st.tuples(st.integers(0, 2**31 - 1), st.binary(max_size=200)), max_size=4)
_topics = st.lists(st.tuples(st.text(max_size=20), _partitions), max_size=4)


@given(transaction=st.none() | st.text(max_size=20), acks=st.sampled_from([-1, 0, 1]), topics=_topics)
def test_the_bytes_are_those_of_aiokafka(
    transaction: str | None, acks: int, topics: list[tuple[str, list[tuple[int, bytes]]]]
) -> None:
    fields = (transaction, acks, 10_000, topics)
    assert QuickProduceRequest(*fields).encode() == ProduceRequest_v7(*fields).encode()


def test_producers_use_it_for_the_newest_version_and_older_brokers_get_theirs() -> None:
    assert producer  # its import sees to it
    request = ProduceRequest(transactional_id=None, required_acks=-1, timeout=1, topics=[])
    assert type(request.prepare({ProduceRequest.API_KEY: (0, 13)})) is QuickProduceRequest
    assert request.prepare({ProduceRequest.API_KEY: (0, 6)}).API_VERSION == 6
