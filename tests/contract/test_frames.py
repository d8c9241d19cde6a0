"""SSE data as the public contract shows it. The shapes are copied from there: fields may be added, never changed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from tests.contract.expected import AT, CONVERSATION, PARENT, QUESTION, REPLY, TURN, USER

from logue_common import frames
from logue_common.errors import problem
from logue_common.events import ChatReplied, ReplyMessage, Usage

MESSAGE = {
    "id": REPLY,
    "role": "assistant",
    "content": "Hello",
    "parent_id": QUESTION,
    "created_at": "2026-01-02T03:04:05.678901Z",
}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def outcome(status: str, **fields: Any) -> ChatReplied:
    values: dict[str, Any] = {
        "user_id": USER,
        "conversation_id": CONVERSATION,
        "turn_id": TURN,
        "status": status,
        "attempt": 1,
        "n": 4,
        "parent_id": PARENT,
        "model": "demo",
        "finished_at": AT,
    }
    return ChatReplied(**(values | fields))


REPLIED = ReplyMessage(id=REPLY, content="Hello", parent_id=QUESTION, created_at=AT)
COMPLETED = outcome("completed", message=REPLIED, usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3))


def test_message_completed_is_the_body_of_the_json_response() -> None:
    kind, data = frames.end_frame(COMPLETED)
    assert kind == "message.completed"
    assert orjson.loads(data) == {
        "conversation_id": CONVERSATION,
        "turn_id": TURN,
        "status": "completed",
        "model": "demo",
        "message": MESSAGE,
        "usage": USAGE,
    }


def test_turn_failed_is_a_problem_with_the_turn() -> None:
    kind, data = frames.end_frame(outcome("failed", error=problem("model_error", "Try again in a moment.")))
    assert kind == "turn.failed"
    assert orjson.loads(data) == {
        "type": "urn:logue:problem:model_error",
        "title": "The model failed",
        "status": 502,
        "detail": "Try again in a moment.",
        "code": "model_error",
        "retryable": True,
        "correlation_id": TURN,
        "turn_id": TURN,
    }


def test_turn_cancelled_keeps_the_partial_text() -> None:
    kind, data = frames.end_frame(outcome("cancelled", message=REPLIED))
    assert (kind, orjson.loads(data)) == ("turn.cancelled", {"turn_id": TURN, "content": "Hello"})


def test_message_delta_and_snapshot() -> None:
    assert orjson.loads(frames.delta_data("text")) == {"delta": "text"}
    assert orjson.loads(frames.snapshot_data("text")) == {"content": "text"}


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("QUEUED", "turn.queued"),
        ("DELTA", "message.delta"),
        ("RESET", "message.reset"),
        ("SNAPSHOT", "message.snapshot"),
        ("COMPLETED", "message.completed"),
        ("FAILED", "turn.failed"),
        ("CANCELLED", "turn.cancelled"),
        ("CHECKPOINT", "checkpoint"),
        ("ATTACH", "attach"),
        ("REFUSED", "refused"),
    ],
)
def test_kinds_of_frames_are_the_names_of_events(name: str, event: str) -> None:
    assert getattr(frames, name) == event


#: code → (status, retryable), as the contract lists them
CODES = {
    "model_error": (502, True),
    "model_timeout": (504, True),
    "idempotency_mismatch": (409, False),
    "conversation_busy": (409, True),
    "turn_finished": (409, False),
    "conversation_not_found": (404, False),
    "turn_not_found": (404, False),
    "message_not_found": (404, False),
    "rate_limited": (429, True),
    "overloaded": (503, True),
    "unavailable": (503, True),
    "accept_unknown": (503, True),
    "context_unavailable": (503, True),
    "turn_expired": (504, True),
    "turn_lost": (500, True),
}


@pytest.mark.parametrize("code", CODES)
def test_codes_of_the_contract(code: str) -> None:
    made = problem(code, "Do this.")
    assert (made.status, made.retryable) == CODES[code]
