"""Builds the outcomes that an owner proposes to the log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from logue_agent.context import ROOT
from logue_agent.model import Completion
from logue_agent.turn import Turn
from logue_common.errors import Problem
from logue_common.events import ChatReplied, OutcomeStatus, ReplyMessage


@dataclass(slots=True)
class Progress:
    """What an attempt has come to: filled in while it runs, read when it ends, however it ends."""

    parent_id: str | None = None
    started_at: datetime | None = None
    first_token_at: datetime | None = None
    completion: Completion | None = None


def outcome_of(
    turn: Turn,
    progress: Progress,
    status: OutcomeStatus,
    now: datetime,
    *,
    text: str = "",
    error: Problem | None = None,
) -> ChatReplied:
    """The outcome of `turn`. A failed one has no message, a cancelled one keeps text that is not empty."""
    request = turn.request
    message = None
    if status == "completed" or (status == "cancelled" and text):
        message = ReplyMessage(
            id=request.reply_message_id, content=text, parent_id=request.user_message_id, created_at=now
        )
    completion = progress.completion
    return ChatReplied(
        turn_id=request.turn_id,
        conversation_id=request.conversation_id,
        user_id=request.user_id,
        status=status,
        attempt=turn.attempt,
        n=turn.n + 1,
        user_message_id=request.user_message_id,
        parent_id=progress.parent_id if progress.parent_id is not None else _named_parent(turn),
        model=completion.model if completion is not None else request.model,
        message=message,
        usage=completion.usage if completion is not None else None,
        error=error,
        started_at=progress.started_at,
        first_token_at=progress.first_token_at,
        finished_at=now,
    )


def _named_parent(turn: Turn) -> str | None:
    return None if turn.request.parent_id == ROOT else turn.request.parent_id
