"""Decoding polls, and cutting batches."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from logue_common.events import AttemptStarted, encode
from logue_common.ids import new_id
from logue_common.topics import CHAT_PROGRESSED, CHAT_REPLIED, CHAT_REQUESTED
from logue_conversation.batches import Batch, decode_poll


@dataclass
class Record:
    topic: str
    partition: int
    offset: int
    value: bytes | None
    key: bytes | None = b"k"
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    timestamp: int = 1_767_225_600_000


def started(offset: int, **values: object) -> Record:
    event = AttemptStarted(
        user_id="u", conversation_id=new_id(), turn_id=new_id(), attempt=1, started_at="2026-01-01T00:00:00Z"
    )
    return Record(CHAT_PROGRESSED, 1, offset, encode(event), **values)  # type: ignore[arg-type]


def test_unreadable_and_unknown_records_are_set_aside_and_passed() -> None:
    progressed, replied = TopicPartition(CHAT_PROGRESSED, 1), TopicPartition(CHAT_REPLIED, 0)
    unknown = started(8, headers=[("ce_type", b"logue.chat.step_finished")])
    garbage, empty = Record(CHAT_REPLIED, 0, 3, b"\xff"), Record(CHAT_REPLIED, 0, 4, None)
    decoded = decode_poll({replied: [garbage, empty], progressed: [started(7), unknown]})
    assert [logged.offset for logged in decoded.batch.events] == [7]
    assert [record for record, _ in decoded.unreadable] == [garbage, empty]
    assert decoded.unknown == 1
    assert decoded.batch.positions == {progressed: 9, replied: 5}


@given(st.integers(2, 20))
def test_halves_hold_every_event_once_and_end_where_the_batch_ends(count: int) -> None:
    poll = {TopicPartition(CHAT_PROGRESSED, 1): [started(10 + n) for n in range(count)]}
    batch = decode_poll(poll).batch
    batch.positions[TopicPartition(CHAT_REQUESTED, 0)] = 99
    first, second = batch.halves()
    assert first.events + second.events == batch.events
    assert first.positions == {TopicPartition(CHAT_PROGRESSED, 1): first.events[-1].offset + 1}
    assert second.positions == batch.positions
    assert batch.without_events() == Batch([], batch.positions)
