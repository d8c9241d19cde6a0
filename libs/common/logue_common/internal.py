"""Wire contract of the conversation service's internal HTTP API, as gateway and agent call it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from logue_common.errors import Problem
from logue_common.events import ReplyMessage, ReplyTo, Usage

TurnStatus = Literal["queued", "in_progress", "completed", "failed", "cancelled"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class TurnInternals(_Model):
    """What the gateway needs of a stored turn and never shows."""

    #: Number of the end frame, within `StoredTurn.attempt`; None while the turn is live.
    n: int | None = None
    reply_to: ReplyTo | None = None
    fingerprint: str | None = None
    user_message_id: str | None = None
    model: str | None = None


class StoredTurn(_Model):
    """A turn as PostgreSQL knows it. All fields but `internal` are public (GET /turns/{id})."""

    turn_id: str
    conversation_id: str
    status: TurnStatus
    attempt: int
    requested_at: datetime | None
    started_at: datetime | None
    first_token_at: datetime | None
    finished_at: datetime | None
    message: ReplyMessage | None
    usage: Usage | None
    error: Problem | None
    internal: TurnInternals

    @property
    def is_over(self) -> bool:
        """True when the outcome is stored."""
        return self.status in ("completed", "failed", "cancelled")


class ContextMessage(_Model):
    """One message on the path from the root to a turn's parent."""

    id: str
    parent_id: str | None
    role: Literal["user", "assistant", "system"]
    content: str


class TurnContext(_Model):
    """What a lane must know before it runs a turn: the path to its parent, and the outcome if there is one already."""

    #: The resolved parent of the turn's user message; None for the first message of a conversation.
    parent_id: str | None
    messages: list[ContextMessage]
    #: Status of the turn itself; terminal when the log decided it before this lane came to it.
    status: TurnStatus
    #: The stored turn when `status` is terminal.
    decided: StoredTurn | None = None
