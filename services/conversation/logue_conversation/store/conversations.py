"""Queries on conversations."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from logue_conversation.tables import conversations, messages, tombstones, turns

_ITEM = (
    conversations.c.id,
    conversations.c.title,
    conversations.c.archived,
    conversations.c.metadata,
    conversations.c.created_at,
    conversations.c.updated_at,
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as its user sees it."""

    id: str
    title: str | None
    archived: bool
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime


async def page(
    connection: AsyncConnection, user_id: str, after: tuple[datetime, str] | None, limit: int
) -> list[Conversation]:
    """Up to `limit` conversations, newest first, after this place."""
    order = tuple_(conversations.c.created_at, conversations.c.id)
    query = select(*_ITEM).where(conversations.c.user_id == user_id, conversations.c.created_at.is_not(None))
    if after is not None:
        query = query.where(order < tuple_(*after, types=[conversations.c.created_at.type, conversations.c.id.type]))
    query = query.order_by(conversations.c.created_at.desc(), conversations.c.id.desc()).limit(limit)
    return [Conversation(*row) for row in await connection.execute(query)]


async def get(connection: AsyncConnection, user_id: str, conversation_id: str) -> Conversation | None:
    """The conversation, if the user has it."""
    row = (await connection.execute(select(*_ITEM).where(*_is(user_id, conversation_id)))).one_or_none()
    return None if row is None else Conversation(*row)


async def create(connection: AsyncConnection, user_id: str, created: Conversation) -> None:
    """Store a new one."""
    await connection.execute(
        insert(conversations).values(
            user_id=user_id,
            id=created.id,
            title=created.title,
            archived=created.archived,
            metadata=created.metadata,
            created_at=created.created_at,
            updated_at=created.updated_at,
        )
    )


async def change(
    connection: AsyncConnection, user_id: str, conversation_id: str, values: dict[str, Any]
) -> Conversation | None:
    """Set columns; the conversation as it is now, if the user has it."""
    query = update(conversations).where(*_is(user_id, conversation_id)).values(values).returning(*_ITEM)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else Conversation(*row)


async def erase(connection: AsyncConnection, user_id: str, conversation_id: str, at: datetime) -> bool:
    """Delete it with all that is in it, and leave a tombstone. False when the user has no such conversation."""
    # Deleting the row first takes the lock that the writer takes too: nothing is added behind our back.
    gone = await connection.execute(delete(conversations).where(*_is(user_id, conversation_id)))
    if not gone.rowcount:
        return False
    await connection.execute(insert(tombstones).values(user_id=user_id, conversation_id=conversation_id, deleted_at=at))
    for table in (messages, turns):
        await connection.execute(
            delete(table).where(table.c.user_id == user_id, table.c.conversation_id == conversation_id)
        )
    return True


def _is(user_id: str, conversation_id: str) -> tuple[Any, ...]:
    return (
        conversations.c.user_id == user_id,
        conversations.c.id == conversation_id,
        conversations.c.created_at.is_not(None),
    )
