"""Records of Kafka and answers of other services: read, or refused as declared; nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from aiokafka import ConsumerRecord
from hypothesis import example, given
from hypothesis import strategies as st
from tests.contract.expected import FULL
from tests.hostile.evil import BYTES, SECRET, TEXT, TURN, attempt, changed, refilled

from logue_common.errors import ProblemError, UnreadableRecordError
from logue_common.events import Event, decode, encode, legible_ids
from logue_common.frames import END_KINDS, FrameHeader
from logue_common.ids import is_id
from logue_common.internal import TurnContext
from logue_gateway.store import Answer, _refusal, parse_turn
from logue_gateway.streams.event_ids import EventId, EventIds
from logue_gateway.streams.reader import deliver, frame_of
from logue_gateway.streams.sse import SseStream
from logue_gateway.streams.waiters import Registry

_EVENTS = list(FULL.values())
_VALUES = [encode(event) for event in _EVENTS]
_MODELS = sorted({type(event) for event in _EVENTS}, key=lambda model: model.__name__)


@given(st.sampled_from(_MODELS), BYTES | changed(_VALUES) | refilled([orjson.loads(value) for value in _VALUES]))
def test_a_record_is_an_event_or_unreadable(model: type[Event], value: bytes) -> None:
    legible = legible_ids(value)
    assert legible is None or (is_id(legible["turn_id"]) and is_id(legible["conversation_id"]))
    event, error = attempt(lambda: decode(model, value), UnreadableRecordError)
    if event is None:
        assert len(str(error)) < 2000
        return
    assert is_id(event.conversation_id)
    assert 0 < len(event.user_id) <= 255
    assert decode(model, encode(event)) == event


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["user", "attempt", "n", "kind", "request", "model_ms"]) | TEXT,
        st.none()
        | st.binary(max_size=20)
        | st.sampled_from(
            [b"1", b"-1", b"99999999999999999999", b"1_0", b" 7 ", *(kind.encode() for kind in END_KINDS)]
        ),
    ),
    max_size=10,
)


def record(headers: Any, key: bytes | None, value: bytes | None) -> ConsumerRecord[Any, Any]:
    size = len(value or b"")
    return ConsumerRecord("chat.stream", 0, 7, 0, 0, key, value, None, 0, size, tuple(headers))


@given(HEADERS)
def test_headers_are_a_frames_or_a_value_error(headers: Any) -> None:
    try:
        header = FrameHeader.decode(headers)
    except ValueError:
        return
    assert FrameHeader.decode(header.encode()) == header


@given(st.lists(st.tuples(HEADERS, st.none() | st.just(TURN.encode()) | st.binary(max_size=9), BYTES), max_size=6))
def test_no_frame_harms_the_reader(frames: list[Any]) -> None:
    async def run() -> None:
        registry = Registry("live", silence_seconds=1, on_attach=lambda *_: None, on_gap=lambda _: None)
        ids, seen = EventIds(SECRET).of("ann", TURN), EventId(0, 0, 0, 0)
        stream = SseStream("ann", TURN, ids=ids, seen=seen, expires_at=0, buffer_bytes=1000, request_id="r")
        registry.add(stream)
        usual = [("user", b"ann"), ("attempt", b"1"), ("n", b"1"), ("kind", b"message.completed")]
        for headers, key, value in frames:
            for sent in (headers, [*usual, *headers]):
                if (frame := frame_of(record(sent, key, value), "live")) is not None:
                    deliver(registry, frame, reader="live", now=0)
        stream.take(0)

    asyncio.run(run())


@given(st.integers(100, 599), st.sampled_from([b'{"code":"turn_not_found"}']) | BYTES)
@example(404, b'{"code":"turn_not_found","errors":7}')
@example(404, b'{"code":["turn_not_found"],"detail":null}')
def test_an_answer_of_the_store_is_a_turn_or_a_problem(status: int, body: bytes) -> None:
    assert isinstance(_refusal("turn", Answer(status, body)), ProblemError)
    with pytest.raises(ProblemError):
        parse_turn(Answer(200, body))
    with pytest.raises(ValueError, match="TurnContext"):
        TurnContext.model_validate_json(body)
