"""What a model server may send: whatever it is, the turn gets an outcome that the log takes and clients can read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.hostile.evil import BYTES, CONVERSATION, TURN, attempt, refilled

from logue_agent.model import MAX_REPLY_CHARACTERS, Completion, ModelFailedError, _read_chunk
from logue_agent.model_stream import EventLines, LineTooLongError
from logue_common.events import ChatReplied, ReplyMessage, encode
from logue_common.frames import end_frame, sse_data
from logue_common.topics import MAX_RECORD_BYTES

NOW = datetime(2026, 1, 1, tzinfo=UTC)
_CHUNKS = [
    {"id": "x", "model": "m", "choices": [{"delta": {"content": "hi"}, "finish_reason": None}], "usage": None},
    {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}},
    {"error": {"message": "no"}},
]


@given(st.lists(BYTES | refilled(_CHUNKS), max_size=5))
@example([b'{"model": {"a": 1}}'])
@example([b'{"usage": {"prompt_tokens": 18446744073709551616}}'])
@example([b'{"usage": {"prompt_tokens": -1}}'])
@example([b'{"choices": [{"finish_reason": {"a": 1}}], "model": "' + b"x" * 10_000 + b'"}'])
def test_whatever_the_model_sends_there_is_an_outcome(chunks: list[bytes]) -> None:
    completion = Completion("asked-for")
    pieces: list[str] = []

    def read() -> None:
        lines = EventLines()
        for chunk in chunks:
            pieces.extend(_read_chunk(completion, data) or "" for data in lines.feed(b"data: " + chunk + b"\n\n"))

    _, error = attempt(read, ModelFailedError, LineTooLongError)
    assert len(str(error)) < 1000
    assert_outcome(completion, "".join(pieces))


def assert_outcome(completion: Completion, text: str) -> None:
    """What such a reply comes to can be written to the log and be shown."""
    reply = ReplyMessage(id=TURN, content=text, parent_id=TURN, created_at=NOW)
    outcome = ChatReplied(
        user_id="ann",
        conversation_id=CONVERSATION,
        turn_id=TURN,
        status="completed",
        attempt=1,
        n=1,
        model=completion.model,
        message=reply,
        usage=completion.usage,
        finished_at=NOW,
    )
    assert len(encode(outcome)) < MAX_RECORD_BYTES
    assert len(end_frame(outcome)[1]) < MAX_RECORD_BYTES
    assert len(completion.model) <= 200


@pytest.mark.parametrize("character", ["x", "é", "漢", "😀", "\x00", '"', "\u2028"])
def test_the_longest_reply_fits_into_a_record(character: str) -> None:
    assert_outcome(Completion("m"), character * MAX_REPLY_CHARACTERS)
    assert len(sse_data({"content": character * MAX_REPLY_CHARACTERS})) < MAX_RECORD_BYTES
