"""Queries on messages. They form a tree; lists follow the conversation: by turn, user message before reply."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from logue_common.internal import ContextMessage
from logue_conversation.tables import messages, turns


@dataclass(frozen=True, slots=True)
class Message:
    """A message as its user sees it, and its place."""

    id: str
    turn_id: str
    parent_id: str | None
    role: str
    content: str
    created_at: datetime
    sequence: int
    position: int
    status: str
    usage: dict[str, Any] | None


_ITEM: tuple[Column[Any], ...] = (
    messages.c.id,
    messages.c.turn_id,
    messages.c.parent_id,
    messages.c.role,
    messages.c.content,
    messages.c.created_at,
    messages.c.sequence,
    messages.c.position,
    turns.c.status,
    turns.c.usage,
)


async def page(
    connection: AsyncConnection,
    user_id: str,
    conversation_id: str,
    *,
    after: tuple[int, int] | None,
    newest_first: bool,
    leaf: str | None,
    limit: int,
) -> list[Message]:
    """Up to `limit` messages after this place; with `leaf` only those of the branch that ends in it."""
    place = tuple_(messages.c.sequence, messages.c.position)
    turn = (turns.c.user_id == messages.c.user_id) & (turns.c.id == messages.c.turn_id)
    query = (
        select(*_ITEM)
        .select_from(messages.join(turns, turn))
        .where(
            messages.c.user_id == user_id,
            messages.c.conversation_id == conversation_id,
            messages.c.sequence.is_not(None),
        )
    )
    if leaf is not None:
        query = query.where(messages.c.id.in_(_branch(user_id, conversation_id, leaf)))
    if after is not None:
        bound = tuple_(*after, types=[messages.c.sequence.type, messages.c.position.type])
        query = query.where(place < bound if newest_first else place > bound)
    columns = (messages.c.sequence, messages.c.position)
    query = query.order_by(*(c.desc() if newest_first else c for c in columns)).limit(limit)
    return [Message(*row) for row in await connection.execute(query)]


async def exists(
    connection: AsyncConnection, user_id: str, conversation_id: str, message_id: str, before: int | None = None
) -> bool:
    """True when the message is in this conversation, in a turn before that sequence if one is given."""
    query = select(messages.c.id).where(
        messages.c.user_id == user_id,
        messages.c.id == message_id,
        messages.c.conversation_id == conversation_id,
        messages.c.sequence.is_not(None),
    )
    if before is not None:
        query = query.where(messages.c.sequence < before)
    return await connection.scalar(query) is not None


async def path_to(
    connection: AsyncConnection, user_id: str, conversation_id: str, message_id: str
) -> list[ContextMessage]:
    """The messages from the root to this one."""
    query = (
        select(messages.c.id, messages.c.parent_id, messages.c.role, messages.c.content)
        .where(messages.c.user_id == user_id, messages.c.id.in_(_branch(user_id, conversation_id, message_id)))
        # A parent is always of an earlier turn, or the user message of the same one.
        .order_by(messages.c.sequence, messages.c.position)
    )
    return [
        ContextMessage(id=row.id, parent_id=row.parent_id, role=row.role, content=row.content)
        for row in await connection.execute(query)
    ]


def _branch(user_id: str, conversation_id: str, leaf: str) -> Select[Any]:
    """The ids from `leaf` up to its root. UNION drops what was seen, so that not even a circle goes on for ever."""
    mine = (messages.c.user_id == user_id, messages.c.conversation_id == conversation_id)
    branch = (
        select(messages.c.id, messages.c.parent_id).where(*mine, messages.c.id == leaf).cte("branch", recursive=True)
    )
    parents = select(messages.c.id, messages.c.parent_id).where(*mine, messages.c.id == branch.c.parent_id)
    return select(branch.union(parents).c.id)
