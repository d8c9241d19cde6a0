"""Frames: headers, data lines that no client splits, and the frame that ends a turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logue_common.errors import problem
from logue_common.events import ChatReplied, ReplyMessage, Usage
from logue_common.frames import (
    CANCELLED,
    CHECKPOINT,
    COMPLETED,
    DELTA,
    FAILED,
    FrameHeader,
    delta_data,
    end_frame,
    snapshot_data,
    sse_data,
)
from logue_common.ids import derived_id

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TURN = derived_id("turn", "1")
CONVERSATION = derived_id("conversation", "1")


def outcome(**fields: object) -> ChatReplied:
    values: dict[str, object] = {
        "user_id": "user-1",
        "conversation_id": CONVERSATION,
        "turn_id": TURN,
        "attempt": 3,
        "n": 8,
        "model": "demo",
        "finished_at": NOW,
    }
    return ChatReplied.model_validate(values | fields)


def reply(content: str) -> ReplyMessage:
    return ReplyMessage(
        id=derived_id("reply", "1"), content=content, parent_id=derived_id("question", "1"), created_at=NOW
    )


@given(
    TEXT,
    st.integers(min_value=0, max_value=2**63 - 1),
    st.integers(min_value=0, max_value=2**63 - 1),
    st.sampled_from([DELTA, CHECKPOINT, COMPLETED, FAILED, CANCELLED]),
    st.none() | TEXT,
    st.none() | st.integers(min_value=0, max_value=10**9),
)
def test_a_header_survives_kafka(
    user: str, attempt: int, n: int, kind: str, request: str | None, model_ms: int | None
) -> None:
    header = FrameHeader(user=user, attempt=attempt, n=n, kind=kind, request=request, model_ms=model_ms)
    assert FrameHeader.decode(header.encode()) == header
    assert FrameHeader.decode([("traceparent", b"00-1-2-01"), *header.encode()]) == header


@pytest.mark.parametrize("missing", ["user", "attempt", "n", "kind"])
def test_a_record_without_a_frames_headers_is_no_frame(missing: str) -> None:
    headers = FrameHeader(user="user-1", attempt=1, n=1, kind=DELTA).encode()
    with pytest.raises(ValueError, match=missing):
        FrameHeader.decode([header for header in headers if header[0] != missing])


@pytest.mark.parametrize(("name", "value"), [("attempt", b"x"), ("n", b""), ("user", b"\xff"), ("kind", b"\xff")])
def test_a_header_that_cannot_be_read_is_a_value_error(name: str, value: bytes) -> None:
    headers = dict(FrameHeader(user="user-1", attempt=1, n=1, kind=DELTA).encode()) | {name: value}
    with pytest.raises(ValueError, match=r".+"):
        FrameHeader.decode(headers.items())


def test_only_outcomes_end_a_turn() -> None:
    ends = {
        kind
        for kind in (
            "turn.queued",
            DELTA,
            "message.reset",
            CHECKPOINT,
            "attach",
            "refused",
            COMPLETED,
            FAILED,
            CANCELLED,
        )
        if FrameHeader(user="u", attempt=1, n=1, kind=kind).is_end
    }
    assert ends == {COMPLETED, FAILED, CANCELLED}


@given(TEXT)
def test_data_is_one_line_to_every_kind_of_reader(text: str) -> None:
    data = delta_data(text)
    assert data.decode().splitlines() == [data.decode()]
    assert orjson.loads(data) == {"delta": text}


def test_line_separators_are_escaped() -> None:
    assert sse_data({"a\u2028": "\u2029\x85\\\u2028"}) == b'{"a\\u2028":"\\u2029\\u0085\\\\\\u2028"}'


@pytest.mark.parametrize(
    "text", ["a\u2028b\u2029c\u0085d", "\v\f\x1c\x1d\x1e", "line\nline\r\nline\r", "👩\u200d👩\u200d👧 \u200fעברית é"]
)
async def test_data_survives_the_line_iterator_of_httpx(text: str) -> None:
    event = b"event: message.delta\ndata: " + delta_data(text) + b"\n\n"

    async def byte_by_byte() -> AsyncIterator[bytes]:
        for position in range(len(event)):
            yield event[position : position + 1]

    lines = [line async for line in httpx.Response(200, content=byte_by_byte()).aiter_lines()]
    assert lines[0] == "event: message.delta"
    assert orjson.loads(lines[1].removeprefix("data: ")) == {"delta": text}
    assert lines[2:] == [""]


def test_a_snapshot_holds_the_text_so_far() -> None:
    assert orjson.loads(snapshot_data("so far")) == {"content": "so far"}


def test_a_completed_outcome_ends_with_the_reply() -> None:
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    kind, data = end_frame(outcome(status="completed", message=reply("Hi\u2028"), usage=usage))
    assert kind == COMPLETED
    assert b"\\u2028" in data
    assert orjson.loads(data)["message"]["content"] == "Hi\u2028"
    assert orjson.loads(data)["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_a_completed_outcome_may_lack_usage() -> None:
    _, data = end_frame(outcome(status="completed", message=reply("")))
    assert orjson.loads(data)["usage"] is None


def test_a_cancelled_outcome_ends_with_the_partial_text() -> None:
    kind, data = end_frame(outcome(status="cancelled", message=reply("par")))
    assert (kind, orjson.loads(data)) == (CANCELLED, {"turn_id": TURN, "content": "par"})


def test_a_cancelled_outcome_without_a_reply_ends_with_empty_text() -> None:
    kind, data = end_frame(outcome(status="cancelled"))
    assert (kind, orjson.loads(data)) == (CANCELLED, {"turn_id": TURN, "content": ""})


def test_a_failed_outcome_ends_with_its_problem() -> None:
    kind, data = end_frame(outcome(status="failed", error=problem("model_timeout", "Try again.")))
    assert kind == FAILED
    assert orjson.loads(data) == {
        "type": "urn:logue:problem:model_timeout",
        "title": "The model took too long",
        "status": 504,
        "detail": "Try again.",
        "code": "model_timeout",
        "retryable": True,
        "correlation_id": TURN,
        "turn_id": TURN,
    }


@pytest.mark.parametrize("status", ["failed", "completed"])
def test_an_outcome_that_lacks_its_content_has_no_end_frame(status: str) -> None:
    with pytest.raises(ValueError, match=TURN):
        end_frame(outcome(status=status))
