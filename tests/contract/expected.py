"""Every event in full, as Python objects; the golden files hold the same as JSON."""

from __future__ import annotations

from datetime import UTC, datetime

from logue_common.errors import Problem
from logue_common.events import (
    AttemptStarted,
    ChatCancelRequested,
    ChatReplied,
    ChatRequested,
    ConversationChanged,
    Event,
    ReplyMessage,
    ReplyTo,
    Usage,
)

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
USER = "user-1"
CONVERSATION = "0190a5d2-7c00-7000-8000-000000000001"
TURN = "0190a5d2-7c00-7000-8000-000000000002"
QUESTION = "0190a5d2-7c00-7000-8000-000000000003"
REPLY = "0190a5d2-7c00-7000-8000-000000000004"
PARENT = "0190a5d2-7c00-7000-8000-000000000005"

FULL: dict[str, Event] = {
    "chat_requested": ChatRequested(
        user_id=USER,
        conversation_id=CONVERSATION,
        turn_id=TURN,
        user_message_id=QUESTION,
        reply_message_id=REPLY,
        content="What is a log? 🪵\u2028\r\n",
        parent_id=PARENT,
        new_conversation=True,
        verify=True,
        fingerprint="9f86d081",
        on_busy="interrupt",
        model="demo",
        metadata={"source": "page", "depth": [1, None, {"a": 0.5}]},
        reply_to=ReplyTo(partition=3, offset=41, request_id="request-1"),
        requested_at=AT,
    ),
    "chat_cancel_requested": ChatCancelRequested(
        user_id=USER, conversation_id=CONVERSATION, turn_id=TURN, reason="accept_unknown", requested_at=AT
    ),
    "chat_cancel_requested_of_a_conversation": ChatCancelRequested(
        user_id=USER, conversation_id=CONVERSATION, turn_id=None, reason="conversation_deleted", requested_at=AT
    ),
    "attempt_started": AttemptStarted(
        user_id=USER, conversation_id=CONVERSATION, turn_id=TURN, attempt=7, started_at=AT
    ),
    "chat_replied_completed": ChatReplied(
        user_id=USER,
        conversation_id=CONVERSATION,
        turn_id=TURN,
        status="completed",
        attempt=7,
        n=12,
        user_message_id=QUESTION,
        parent_id=PARENT,
        model="demo",
        message=ReplyMessage(id=REPLY, content="A log is a list. 🪵", parent_id=QUESTION, created_at=AT),
        usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3),
        started_at=AT,
        first_token_at=AT,
        finished_at=AT,
    ),
    "chat_replied_failed": ChatReplied(
        user_id=USER,
        conversation_id=CONVERSATION,
        turn_id=TURN,
        status="failed",
        attempt=0,
        n=1,
        error=Problem(
            type="urn:logue:problem:model_timeout",
            title="The model took too long",
            status=504,
            detail="The model did not answer in time. Try again.",
            code="model_timeout",
            retryable=True,
            correlation_id=TURN,
        ),
        finished_at=AT,
    ),
    "conversation_changed": ConversationChanged(
        user_id=USER, conversation_id=CONVERSATION, change="turn.finished", turn_id=TURN, changed_at=AT
    ),
}
