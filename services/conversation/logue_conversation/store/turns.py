"""Queries on turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from logue_common.errors import Problem
from logue_common.events import ReplyMessage, ReplyTo, Usage
from logue_common.internal import StoredTurn, TurnInternals
from logue_conversation.projection import TERMINAL
from logue_conversation.tables import messages, turns


@dataclass(frozen=True, slots=True)
class FoundTurn:
    """A turn and its place."""

    turn: StoredTurn
    #: None while its request is not stored.
    sequence: int | None
    #: The parent of its user message.
    parent_id: str | None


_REPLY = (
    messages.c.parent_id.label("reply_parent_id"),
    messages.c.content.label("reply_content"),
    messages.c.created_at.label("reply_created_at"),
)


async def get(
    connection: AsyncConnection, user_id: str, turn_id: str, conversation_id: str | None = None
) -> FoundTurn | None:
    """The turn, if the user has it."""
    reply = (messages.c.user_id == turns.c.user_id) & (messages.c.id == turns.c.reply_message_id)
    query = (
        select(turns, *_REPLY)
        .select_from(turns.outerjoin(messages, reply))
        .where(turns.c.user_id == user_id, turns.c.id == turn_id)
    )
    if conversation_id is not None:
        query = query.where(turns.c.conversation_id == conversation_id)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else FoundTurn(_stored(row), row.sequence, row.parent_id)


async def is_answered(connection: AsyncConnection, user_id: str, conversation_id: str, turn_id: str) -> bool:
    """True when request and outcome of the turn are stored."""
    found = await connection.scalar(
        select(turns.c.id).where(
            turns.c.user_id == user_id,
            turns.c.id == turn_id,
            turns.c.conversation_id == conversation_id,
            turns.c.sequence.is_not(None),
            turns.c.status.in_(TERMINAL),
        )
    )
    return found is not None


async def has_live_before(connection: AsyncConnection, user_id: str, conversation_id: str, sequence: int) -> bool:
    """True when an earlier turn of the conversation has no outcome yet."""
    query = exists().where(
        turns.c.user_id == user_id,
        turns.c.conversation_id == conversation_id,
        turns.c.sequence < sequence,
        turns.c.status.not_in(TERMINAL),
    )
    return bool(await connection.scalar(select(query)))


async def last_reply_before(
    connection: AsyncConnection, user_id: str, conversation_id: str, sequence: int
) -> str | None:
    """The reply of the latest earlier turn that has one. Failed turns have none."""
    query = (
        select(turns.c.reply_message_id)
        .where(
            turns.c.user_id == user_id,
            turns.c.conversation_id == conversation_id,
            turns.c.sequence < sequence,
            turns.c.status.in_(("completed", "cancelled")),
            turns.c.reply_message_id.is_not(None),
        )
        .order_by(turns.c.sequence.desc())
        .limit(1)
    )
    found: str | None = await connection.scalar(query)
    return found


def _stored(row: Any) -> StoredTurn:
    message = None
    if row.reply_content is not None:
        message = ReplyMessage(
            id=row.reply_message_id,
            content=row.reply_content,
            parent_id=row.reply_parent_id,
            created_at=row.reply_created_at,
        )
    return StoredTurn(
        turn_id=row.id,
        conversation_id=row.conversation_id,
        status=row.status,
        attempt=row.attempt,
        requested_at=row.requested_at,
        started_at=row.started_at,
        first_token_at=row.first_token_at,
        finished_at=row.finished_at,
        message=message,
        usage=None if row.usage is None else Usage.model_validate(row.usage),
        error=None if row.error is None else Problem.model_validate(row.error),
        internal=TurnInternals(
            n=row.n,
            reply_to=None if row.reply_to is None else ReplyTo.model_validate(row.reply_to),
            fingerprint=row.fingerprint,
            user_message_id=row.user_message_id,
            model=row.model,
        ),
    )
