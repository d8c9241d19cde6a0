"""Stores one batch in one transaction: lock, load, project, write. The rules are in projection.py; this moves data.

Every conversation of the batch is locked first, in one order for all writers, so that a writer which lost its
partitions but does not know yet, and a user who deletes, wait for each other instead of interleaving.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

from aiokafka.structs import TopicPartition
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from logue_conversation import metrics
from logue_conversation.batches import Batch
from logue_conversation.bulk import arrays, insert_rows, rows_of
from logue_conversation.database import Database
from logue_conversation.errors import StoreUnavailableError
from logue_conversation.projection import Change, ConversationRow, Key, MessageRow, Projection, TurnRow
from logue_conversation.tables import WHOLE_USER, conversations, log_positions, messages, tombstones, turns


def _columns_of(table: Any, row: type[Any]) -> list[Any]:
    return [table.c[field.name] for field in dataclasses.fields(row)]


def _values_of(row: type[Any]) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*(field.name for field in dataclasses.fields(row)))


_CONVERSATION_KEY = [conversations.c.user_id, conversations.c.id]
_conversation_keys = rows_of(_CONVERSATION_KEY)
_ADD_STUBS = insert_rows(_CONVERSATION_KEY).on_conflict_do_nothing(index_elements=_CONVERSATION_KEY)
_CONVERSATION, _conversation_values = _columns_of(conversations, ConversationRow), _values_of(ConversationRow)
_LOCK = (
    select(*_CONVERSATION)
    .join(
        _conversation_keys,
        (conversations.c.user_id == _conversation_keys.c.user_id) & (conversations.c.id == _conversation_keys.c.id),
    )
    .order_by(conversations.c.user_id, conversations.c.id)
    .with_for_update(of=conversations)
)
_COVERED = select(_conversation_keys.c.user_id, _conversation_keys.c.id).join(
    tombstones,
    (tombstones.c.user_id == _conversation_keys.c.user_id)
    & tombstones.c.conversation_id.in_([_conversation_keys.c.id, WHOLE_USER]),
)
_DROP_STUBS = delete(conversations).where(
    conversations.c.user_id == _conversation_keys.c.user_id,
    conversations.c.id == _conversation_keys.c.id,
    conversations.c.created_at.is_(None),
)
_given_conversations = rows_of(_CONVERSATION)
_UPDATE_CONVERSATIONS = (
    update(conversations)
    .where(
        conversations.c.user_id == _given_conversations.c.user_id,
        conversations.c.id == _given_conversations.c.id,
    )
    .values({c.name: _given_conversations.c[c.name] for c in _CONVERSATION if c.name not in ("user_id", "id")})
)

_TURN_KEY = [turns.c.user_id, turns.c.id]
_turn_keys = rows_of(_TURN_KEY)
_TURN, _turn_values = _columns_of(turns, TurnRow), _values_of(TurnRow)
_LOAD_TURNS = select(*_TURN).join(
    _turn_keys, (turns.c.user_id == _turn_keys.c.user_id) & (turns.c.id == _turn_keys.c.id)
)
_insert_turns = insert_rows(_TURN)
_STORE_TURNS = _insert_turns.on_conflict_do_update(
    index_elements=_TURN_KEY,
    set_={c.name: _insert_turns.excluded[c.name] for c in _TURN if c.name not in ("user_id", "id", "conversation_id")},
    where=turns.c.conversation_id == _insert_turns.excluded.conversation_id,
).returning(turns.c.id)

_MESSAGE, _message_values = _columns_of(messages, MessageRow), _values_of(MessageRow)
_MESSAGE_KEY = [messages.c.user_id, messages.c.id]
_STORE_MESSAGES = insert_rows(_MESSAGE).on_conflict_do_nothing(index_elements=_MESSAGE_KEY)
_PARENT = [messages.c.user_id, messages.c.id, messages.c.parent_id]
_parents = rows_of(_PARENT)
_SET_PARENTS = (
    update(messages)
    .where(
        messages.c.user_id == _parents.c.user_id,
        messages.c.id == _parents.c.id,
        messages.c.parent_id.is_distinct_from(_parents.c.parent_id),
    )
    .values(parent_id=_parents.c.parent_id)
)
_SEQUENCE = [messages.c.user_id, messages.c.id, messages.c.sequence]
_sequences = rows_of(_SEQUENCE)
_SET_SEQUENCES = (
    update(messages)
    .where(
        messages.c.user_id == _sequences.c.user_id,
        messages.c.id == _sequences.c.id,
        messages.c.sequence.is_(None),
    )
    .values(sequence=_sequences.c.sequence)
)

_POSITION = [log_positions.c.topic, log_positions.c.partition, log_positions.c.next_offset]
_insert_positions = insert_rows(_POSITION)
# Not the greater one: when a broker lost its tail, the writer starts over and its position is what it says.
_STORE_POSITIONS = _insert_positions.on_conflict_do_update(
    index_elements=_POSITION[:2],
    set_={"next_offset": _insert_positions.excluded.next_offset},
    where=log_positions.c.next_offset != _insert_positions.excluded.next_offset,
)


class Writer:
    """Stores batches. Raises StoreUnavailableError (try again) or DataRejectedError (some record is poison)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store(self, batch: Batch) -> list[Change]:
        """Store the batch, all of it or nothing; what is to be told of it before its offsets are committed."""
        started = time.monotonic()
        users = {logged.event.user_id for logged in batch.events}
        found = await self._database.as_users(users, lambda connection: self._write(connection, batch))
        for reason, count in found.ignored.items():
            metrics.IGNORED.labels(reason).inc(count)
        for topic, count in Counter(logged.topic for logged in batch.events).items():
            metrics.RECORDS.labels(topic).inc(count)
        if batch.events:
            metrics.BATCH_RECORDS.observe(len(batch.events))
        metrics.BATCH_SECONDS.observe(time.monotonic() - started)
        metrics.LAST_STORED.set_to_current_time()
        return list(found.changes.values())

    async def _write(self, connection: AsyncConnection, batch: Batch) -> Projection:
        found = Projection({}, {})
        if batch.events:
            locked = await _lock_conversations(connection, batch)
            found = Projection(locked, await _load_turns(connection, batch))
            found.apply_all(batch.events)
            await self._write_projection(connection, found)
        await _write_positions(connection, batch.positions)
        return found

    async def _write_projection(self, connection: AsyncConnection, found: Projection) -> None:
        await _write_all(
            connection,
            _UPDATE_CONVERSATIONS,
            _CONVERSATION,
            (_conversation_values(found.conversations[key]) for key in sorted(found.changed_conversations)),
        )
        await _write_turns(connection, [found.turns[key] for key in sorted(found.changed_turns)])
        await _write_all(connection, _STORE_MESSAGES, _MESSAGE, map(_message_values, found.messages.values()))
        await _write_all(connection, _SET_PARENTS, _PARENT, ((*key, value) for key, value in found.parents.items()))
        await _write_all(
            connection, _SET_SEQUENCES, _SEQUENCE, ((*key, value) for key, value in found.sequences.items())
        )


async def _lock_conversations(connection: AsyncConnection, batch: Batch) -> dict[Key, ConversationRow]:
    """Lock the batch's conversations, new ones included; those that a tombstone covers are left out."""
    keys = sorted({(logged.event.user_id, logged.event.conversation_id) for logged in batch.events})
    covered = await _covered(connection, keys)
    wanted = [key for key in keys if key not in covered]
    await _write_all(connection, _ADD_STUBS, _CONVERSATION_KEY, wanted)
    locked = await connection.execute(_LOCK, arrays(_CONVERSATION_KEY, wanted))
    rows = {(row.user_id, row.id): ConversationRow(*row) for row in locked}
    # Once more: what was deleted while we waited for the lock has its tombstone now.
    covered = await _covered(connection, wanted)
    await _write_all(connection, _DROP_STUBS, _CONVERSATION_KEY, covered)
    return {key: row for key, row in rows.items() if key not in covered}


async def _covered(connection: AsyncConnection, keys: list[Key]) -> set[Key]:
    if not keys:
        return set()
    return {(row.user_id, row.id) for row in await connection.execute(_COVERED, arrays(_CONVERSATION_KEY, keys))}


async def _load_turns(connection: AsyncConnection, batch: Batch) -> dict[Key, TurnRow]:
    keys = {(logged.event.user_id, logged.event.turn_id) for logged in batch.events}
    found: Iterable[Any] = await connection.execute(_LOAD_TURNS, arrays(_TURN_KEY, keys))
    return {(row.user_id, row.id): TurnRow(*row) for row in found}


async def _write_turns(connection: AsyncConnection, rows: list[TurnRow]) -> None:
    if not rows:
        return
    stored = await connection.execute(_STORE_TURNS, arrays(_TURN, map(_turn_values, rows)))
    if len(stored.all()) != len(rows):
        # Another writer stored one of them in another conversation since we loaded: look again.
        raise StoreUnavailableError("a turn was stored elsewhere at the same time")


async def _write_positions(connection: AsyncConnection, positions: dict[TopicPartition, int]) -> None:
    rows = sorted((topic, partition, offset) for (topic, partition), offset in positions.items())
    await _write_all(connection, _STORE_POSITIONS, _POSITION, rows)


async def _write_all(
    connection: AsyncConnection, statement: Any, columns: list[Any], rows: Iterable[tuple[Any, ...]]
) -> None:
    found = list(rows)
    if found:
        await connection.execute(statement, arrays(columns, found))
