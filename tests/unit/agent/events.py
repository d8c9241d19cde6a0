"""Events for tests of the agent's decisions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from logue_common.events import AttemptStarted, ChatCancelRequested, ChatReplied, ChatRequested, ReplyMessage, ReplyTo
from logue_common.ids import derived_id

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def conversation(name: str) -> str:
    return derived_id("conversation", name)


def turn(name: str) -> str:
    return derived_id("turn", name)


def requested(name: str, lane: str = "a", **fields: Any) -> ChatRequested:
    values: dict[str, Any] = {
        "user_id": "user-1",
        "conversation_id": conversation(lane),
        "turn_id": turn(name),
        "user_message_id": derived_id("question", name),
        "reply_message_id": derived_id("reply", name),
        "content": f"question {name}",
        "reply_to": ReplyTo(partition=0, offset=0, request_id=f"request-{name}"),
        "requested_at": NOW,
    }
    return ChatRequested(**(values | fields))


def replied(request: ChatRequested, text: str = "answer", **fields: Any) -> ChatReplied:
    message = ReplyMessage(id=request.reply_message_id, content=text, parent_id=request.user_message_id, created_at=NOW)
    values: dict[str, Any] = {
        "user_id": request.user_id,
        "conversation_id": request.conversation_id,
        "turn_id": request.turn_id,
        "status": "completed",
        "attempt": 1,
        "n": 2,
        "user_message_id": request.user_message_id,
        "message": message,
        "finished_at": NOW,
    }
    return ChatReplied(**(values | fields))


def cancelled(request: ChatRequested, **fields: Any) -> ChatCancelRequested:
    values: dict[str, Any] = {
        "user_id": request.user_id,
        "conversation_id": request.conversation_id,
        "turn_id": request.turn_id,
        "requested_at": NOW,
    }
    return ChatCancelRequested(**(values | fields))


def started(request: ChatRequested, attempt: int, finishes_by: datetime | None = None) -> AttemptStarted:
    return AttemptStarted(
        user_id=request.user_id,
        conversation_id=request.conversation_id,
        turn_id=request.turn_id,
        attempt=attempt,
        started_at=NOW,
        finishes_by=finishes_by,
    )
