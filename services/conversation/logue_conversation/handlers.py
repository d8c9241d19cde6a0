"""What the internal API does. Every method acts for one user and sees that user's rows only.

Raises ProblemError for what the caller did, StoreUnavailableError and LogUnavailableError for what cannot be known now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from logue_common.clock import Clock
from logue_common.errors import ProblemError
from logue_common.ids import is_id, new_id
from logue_common.internal import ContextMessage, StoredTurn, TurnContext
from logue_conversation import outbox
from logue_conversation.barrier import WAIT_SECONDS, Barrier
from logue_conversation.cursors import (
    conversation_cursor,
    message_cursor,
    read_conversation_cursor,
    read_message_cursor,
)
from logue_conversation.database import Database
from logue_conversation.news import News
from logue_conversation.projection import Change
from logue_conversation.store import conversations, messages, turns
from logue_conversation.store.conversations import Conversation
from logue_conversation.store.messages import Message

T = TypeVar("T")
ROOT = "root"
_ANSWER_POLL_SECONDS = 0.025
#: How long a context that is not ready is waited for before its lane is told to ask again; and how often it is looked
#: at when another replica's writer has the partition.
_CONTEXT_WAIT_SECONDS, _CONTEXT_POLL_SECONDS = 0.5, 0.1


@dataclass(frozen=True, slots=True)
class Page:
    """Items of a list, and where the next page begins."""

    items: list[Any]
    next_cursor: str | None


class Handlers:
    """Use cases."""

    def __init__(
        self,
        database: Database,
        barrier: Barrier,
        clock: Clock,
        *,
        changed: Callable[[], None],
        news: News,
    ) -> None:
        self._database = database
        self._barrier = barrier
        self._clock = clock
        self._changed = changed
        self._news = news

    async def list_conversations(self, user_id: str, limit: int, cursor: str | None) -> Page:
        """A page of the user's conversations, newest first."""
        after = None if cursor is None else read_conversation_cursor(cursor)
        found = await self._database.as_user(
            user_id, lambda connection: conversations.page(connection, user_id, after, limit + 1)
        )
        last = found[limit - 1] if len(found) > limit else None
        return Page(found[:limit], None if last is None else conversation_cursor(last.created_at, last.id))

    async def create_conversation(self, user_id: str, title: str | None, metadata: dict[str, Any]) -> Conversation:
        """A new, empty conversation."""
        now = self._clock()
        created = Conversation(new_id(), title, archived=False, metadata=metadata, created_at=now, updated_at=now)

        async def work(connection: AsyncConnection) -> None:
            await conversations.create(connection, user_id, created)
            change = Change("conversation.created", user_id, created.id, None)
            await outbox.add(connection, [outbox.changed(change, now)])

        await self._database.as_user(user_id, work)
        self._changed()
        return created

    async def get_conversation(self, user_id: str, conversation_id: str) -> Conversation:
        """The conversation."""
        return await self._known_conversation(
            user_id, conversation_id, lambda connection: conversations.get(connection, user_id, conversation_id)
        )

    async def change_conversation(self, user_id: str, conversation_id: str, values: dict[str, Any]) -> Conversation:
        """Set title, archived, metadata; the conversation as it is then."""
        if not values:
            return await self.get_conversation(user_id, conversation_id)
        now = self._clock()

        async def work(connection: AsyncConnection) -> Conversation | None:
            found = await conversations.change(connection, user_id, conversation_id, {**values, "updated_at": now})
            if found is not None:
                change = Change("conversation.updated", user_id, conversation_id, None)
                await outbox.add(connection, [outbox.changed(change, now)])
            return found

        changed = await self._known_conversation(user_id, conversation_id, work)
        self._changed()
        return changed

    async def delete_conversation(self, user_id: str, conversation_id: str) -> None:
        """Delete it for good: events of the log about it are dropped from now on, and what runs in it is cancelled."""
        now = self._clock()

        async def work(connection: AsyncConnection) -> bool | None:
            if not await conversations.erase(connection, user_id, conversation_id, now):
                return None
            await outbox.add(connection, outbox.deleted(user_id, conversation_id, now))
            return True

        await self._known_conversation(user_id, conversation_id, work)
        self._changed()

    async def list_messages(
        self,
        user_id: str,
        conversation_id: str,
        *,
        limit: int,
        cursor: str | None,
        newest_first: bool,
        after_turn: str | None,
        leaf: str | None,
    ) -> Page:
        """A page of messages in the order of the conversation, or against it.

        `after_turn` waits (2 s at most) until that turn's outcome is stored; `leaf` selects the branch that ends there.
        """
        after = None if cursor is None else read_message_cursor(cursor)
        if after_turn is not None or leaf is not None:
            await self.get_conversation(user_id, conversation_id)
        if after_turn is not None:
            await self._wait_answered(user_id, conversation_id, after_turn)
        if leaf is not None:
            await self._known_message(user_id, conversation_id, leaf)

        async def work(connection: AsyncConnection) -> list[Message] | None:
            if await conversations.get(connection, user_id, conversation_id) is None:
                return None
            return await messages.page(
                connection,
                user_id,
                conversation_id,
                after=after,
                newest_first=newest_first,
                leaf=leaf,
                limit=limit + 1,
            )

        found = await self._known_conversation(user_id, conversation_id, work)
        last = found[limit - 1] if len(found) > limit else None
        return Page(found[:limit], None if last is None else message_cursor(last.sequence, last.position))

    async def get_turn(self, user_id: str, turn_id: str) -> StoredTurn:
        """The turn as it is stored now. What was said about it may be stored before its request is."""
        if not is_id(turn_id):
            raise _no_turn()

        async def look() -> StoredTurn | None:
            found = await self._database.as_user(user_id, lambda connection: turns.get(connection, user_id, turn_id))
            return None if found is None else found.turn

        found = await look()
        if found is None or found.requested_at is None:
            self._news.hurry()
            await self._barrier.everything_requested()
            found = await look()
        if found is None or (found.requested_at is None and not found.is_over):
            raise _no_turn()
        return found

    async def turn_context(
        self, user_id: str, conversation_id: str, turn_id: str, parent_id: str | None
    ) -> TurnContext:
        """What a lane must know before it runs the turn; `not_ready` as long as an earlier turn is not stored."""

        async def work(connection: AsyncConnection) -> TurnContext | None:
            if await conversations.get(connection, user_id, conversation_id) is None:
                return None
            return await _context(connection, user_id, conversation_id, turn_id, parent_id)

        deadline = asyncio.get_running_loop().time() + _CONTEXT_WAIT_SECONDS
        while True:
            try:
                return await self._known_conversation(user_id, conversation_id, work)
            except ProblemError as error:
                # A lane asks as soon as it has the request, which the writer has at the same moment.
                if error.code != "not_ready" or asyncio.get_running_loop().time() >= deadline:
                    raise
            await self._news.wait_stored(conversation_id, _CONTEXT_POLL_SECONDS)

    async def _known_conversation(
        self, user_id: str, conversation_id: str, work: Callable[[AsyncConnection], Awaitable[T | None]]
    ) -> T:
        if not is_id(conversation_id):
            raise _no_conversation()
        found = await self._known(
            lambda: self._database.as_user(user_id, work), lambda: self._barrier.requests_of(conversation_id)
        )
        if found is None:
            raise _no_conversation()
        return found

    async def _known_message(self, user_id: str, conversation_id: str, message_id: str) -> None:
        if not is_id(message_id):
            raise _no_message()

        async def look() -> bool | None:
            is_there = await self._database.as_user(
                user_id, lambda connection: messages.exists(connection, user_id, conversation_id, message_id)
            )
            return is_there or None

        if not await self._known(look, lambda: self._barrier.everything_of(conversation_id)):
            raise _no_message()

    async def _known(self, look: Callable[[], Awaitable[T | None]], wait: Callable[[], Awaitable[None]]) -> T | None:
        """Look; when nothing is there, wait until what is in the log now is stored, and look again."""
        found = await look()
        if found is None:
            self._news.hurry()
            await wait()
            found = await look()
        return found

    async def _wait_answered(self, user_id: str, conversation_id: str, turn_id: str) -> None:
        if not is_id(turn_id):
            raise ProblemError(
                "validation_error",
                "after_turn must be the id of a turn.",
                errors=[{"path": "after_turn", "detail": "is not an id", "type": "value_error"}],
            )
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        while not await self._database.as_user(
            user_id, lambda connection: turns.is_answered(connection, user_id, conversation_id, turn_id)
        ):
            if asyncio.get_running_loop().time() >= deadline:
                return
            self._news.hurry()
            await asyncio.sleep(_ANSWER_POLL_SECONDS)


async def _context(
    connection: AsyncConnection, user_id: str, conversation_id: str, turn_id: str, parent_id: str | None
) -> TurnContext:
    found = await turns.get(connection, user_id, turn_id, conversation_id) if is_id(turn_id) else None
    if found is not None and found.turn.is_over:
        return TurnContext(parent_id=found.parent_id, messages=[], status=found.turn.status, decided=found.turn)
    if found is None or found.sequence is None:
        raise ProblemError("not_ready", "This turn is not stored yet. Ask again in a moment.")
    if await turns.has_live_before(connection, user_id, conversation_id, found.sequence):
        raise ProblemError("not_ready", "An earlier turn of this conversation is not over yet. Ask again in a moment.")
    path: list[ContextMessage] = []
    parent = await _parent(connection, user_id, conversation_id, found.sequence, parent_id)
    if parent is not None:
        path = await messages.path_to(connection, user_id, conversation_id, parent)
    return TurnContext(parent_id=parent, messages=path, status=found.turn.status)


async def _parent(
    connection: AsyncConnection, user_id: str, conversation_id: str, sequence: int, parent_id: str | None
) -> str | None:
    if parent_id == ROOT:
        return None
    if parent_id is None:
        return await turns.last_reply_before(connection, user_id, conversation_id, sequence)
    if not is_id(parent_id) or not await messages.exists(
        connection, user_id, conversation_id, parent_id, before=sequence
    ):
        raise _no_message()
    return parent_id


def _no_conversation() -> ProblemError:
    return ProblemError("conversation_not_found", "There is no such conversation. Check its id, or start a new one.")


def _no_turn() -> ProblemError:
    return ProblemError("turn_not_found", "There is no such turn. Check its id.")


def _no_message() -> ProblemError:
    return ProblemError("message_not_found", "There is no such message in this conversation. Check its id.")
