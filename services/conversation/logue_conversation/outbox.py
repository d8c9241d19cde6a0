"""Rows of the outbox: what must be published because of a transaction, written in it. The relay publishes them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from logue_common.events import ChatCancelRequested, ConversationChanged, Event, encode, event_headers
from logue_common.topics import CHAT_CANCELS, CONVERSATION_CHANGED
from logue_conversation.bulk import arrays, insert_rows
from logue_conversation.projection import Change
from logue_conversation.tables import outbox

SOURCE = "conversation"

_COLUMNS = [outbox.c.user_id, outbox.c.topic, outbox.c.key, outbox.c.headers, outbox.c.value]
_INSERT = insert_rows(_COLUMNS)

Row = tuple[str, str, str, list[list[str]], bytes]


def event_of(change: Change, at: datetime) -> ConversationChanged:
    """What tells the user's other tabs and devices."""
    return ConversationChanged(
        user_id=change.user_id,
        conversation_id=change.conversation_id,
        change=change.change,
        turn_id=change.turn_id,
        changed_at=at,
    )


def changed(change: Change, at: datetime) -> Row:
    """The row with that."""
    return _row(CONVERSATION_CHANGED, change.user_id, event_of(change, at), at)


def deleted(user_id: str, conversation_id: str, at: datetime) -> list[Row]:
    """The rows of a deleted conversation: tell everyone, and stop what runs in it."""
    gone = ConversationChanged(
        user_id=user_id, conversation_id=conversation_id, change="conversation.deleted", changed_at=at
    )
    stop = ChatCancelRequested(
        user_id=user_id, conversation_id=conversation_id, turn_id=None, reason="conversation_deleted", requested_at=at
    )
    return [_row(CONVERSATION_CHANGED, user_id, gone, at), _row(CHAT_CANCELS, conversation_id, stop, at)]


async def add(connection: AsyncConnection, rows: Iterable[Row]) -> None:
    """Write rows, to be published in this order."""
    found = list(rows)
    if found:
        await connection.execute(_INSERT, arrays(_COLUMNS, found))


def _row(topic: str, key: str, event: Event, at: datetime) -> Row:
    headers: Any = [[name, value.decode()] for name, value in event_headers(event, source=SOURCE, at=at)]
    return event.user_id, topic, key, headers, encode(event)
