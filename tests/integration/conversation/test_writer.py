"""The writer on a real PostgreSQL, as the role it has in production."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.structs import TopicPartition
from sqlalchemy import text
from tests.integration.conversation.events import FakeLog, Turn, batch_of
from tests.integration.conversation.support import Databases, TestClock

from logue_common.topics import CHAT_REPLIED, CHAT_REQUESTED
from logue_conversation.batches import Batch
from logue_conversation.errors import DataRejectedError
from logue_conversation.projection import Change
from logue_conversation.store import conversations, messages, turns
from logue_conversation.tables import ISOLATION_CONSTRAINT, metadata
from logue_conversation.writer import Writer


async def rows(databases: Databases, turn: Turn) -> dict[str, list[Any]]:
    """Every row of the user, with the tables in which the API role may look."""

    async def look(connection: Any) -> dict[str, list[Any]]:
        tables = [metadata.tables[name] for name in ("conversations", "turns", "messages")]
        return {t.name: [tuple(row) for row in await connection.execute(t.select().order_by(t.c.id))] for t in tables}

    return await databases.api.as_user(turn.user_id, look)


def told(changes: list[Change]) -> list[str]:
    return [change.change for change in changes]


async def shown(databases: Databases, turn: Turn) -> list[tuple[str, str, str]]:
    page = await databases.api.as_user(
        turn.user_id,
        lambda c: messages.page(
            c, turn.user_id, turn.conversation_id, after=None, newest_first=False, leaf=None, limit=100
        ),
    )
    return [(m.role, m.content, m.status) for m in page]


async def test_a_turn_is_stored_with_question_reply_and_title(writer: Writer, databases: Databases) -> None:
    turn, log = Turn(), FakeLog()
    changes = await writer.store(log.batch(turn.requested(), turn.started(), turn.replied()))

    stored = await databases.api.as_user(turn.user_id, lambda c: turns.get(c, turn.user_id, turn.turn_id))
    assert stored is not None
    assert (stored.turn.status, stored.turn.attempt, stored.turn.internal.n, stored.sequence) == ("completed", 1, 5, 1)
    assert stored.turn.message is not None
    assert stored.turn.message.parent_id == turn.user_message_id
    assert stored.turn.usage is not None
    assert stored.turn.usage.total_tokens == 7
    found = await databases.api.as_user(
        turn.user_id, lambda c: conversations.get(c, turn.user_id, turn.conversation_id)
    )
    assert found is not None
    assert (found.title, found.created_at) == ("What is a log?", turn.at)
    assert await shown(databases, turn) == [
        ("user", turn.content, "completed"),
        ("assistant", turn.reply, "completed"),
    ]
    assert told(changes) == ["conversation.created", "turn.finished"]


async def test_each_step_is_told_and_told_again_when_its_record_comes_again(writer: Writer) -> None:
    turn, log = Turn(), FakeLog()
    steps = [
        (turn.requested(), ["conversation.created", "turn.started"]),
        (turn.started(), []),
        (turn.replied(), ["turn.finished"]),
    ]
    for event, expected in steps:
        batch = log.batch(event)
        assert told(await writer.store(batch)) == expected
        assert told(await writer.store(batch)) == expected
    assert told(await writer.store(batch_of(log.records[:1]))) == ["conversation.created", "turn.finished"]
    assert told(await writer.store(log.batch(turn.requested()))) == []  # a retry of the client
    assert told(await writer.store(log.batch(turn.replied(attempt=2)))) == []  # a late outcome


async def test_a_full_replay_changes_no_row(writer: Writer, databases: Databases) -> None:
    turn, log = Turn(), FakeLog()
    second = turn.next()
    log.add(turn.requested(), turn.started(), turn.replied(), second.requested(), second.replied("cancelled"))
    await writer.store(batch_of(log.records))
    before = await rows(databases, turn)

    await writer.store(batch_of(log.records))
    for record in log.records:
        await writer.store(batch_of([record]))

    assert await rows(databases, turn) == before


async def test_an_outcome_before_its_request_stays_invisible_until_that_comes(
    writer: Writer, databases: Databases
) -> None:
    turn, log = Turn(), FakeLog()
    assert await writer.store(log.batch(turn.replied())) == []
    assert await shown(databases, turn) == []
    assert await databases.api.as_user(turn.user_id, lambda c: conversations.page(c, turn.user_id, None, 10)) == []

    changes = await writer.store(log.batch(turn.requested()))
    assert [role for role, *_ in await shown(databases, turn)] == ["user", "assistant"]
    assert told(changes) == ["conversation.created", "turn.finished"]


@pytest.mark.parametrize("together", [True, False])
async def test_the_first_outcome_wins(writer: Writer, databases: Databases, together: bool) -> None:
    turn, log = Turn(), FakeLog()
    log.add(turn.requested(), turn.replied("cancelled", content="half"), turn.replied(content="whole", attempt=2))
    parts = [log.records] if together else [[record] for record in log.records]
    changes = [change for part in parts for change in await writer.store(batch_of(part))]
    assert await shown(databases, turn) == [
        ("user", turn.content, "cancelled"),
        ("assistant", "half", "cancelled"),
    ]
    assert told(changes).count("turn.finished") == 1


async def test_failed_and_emptily_cancelled_turns_keep_the_question_only(writer: Writer, databases: Databases) -> None:
    turn, log = Turn(), FakeLog()
    second = turn.next("And?")
    await writer.store(
        log.batch(turn.requested(), turn.replied("failed"), second.requested(), second.replied("cancelled", content=""))
    )
    assert await shown(databases, turn) == [("user", turn.content, "failed"), ("user", "And?", "cancelled")]
    stored = await databases.api.as_user(turn.user_id, lambda c: turns.get(c, turn.user_id, turn.turn_id))
    assert stored is not None
    assert stored.turn.error is not None
    assert (stored.turn.error.code, stored.turn.message) == ("model_error", None)


async def test_a_conversation_of_another_user_is_refused_by_the_database(writer: Writer, databases: Databases) -> None:
    turn, log = Turn(), FakeLog()
    await writer.store(log.batch(turn.requested()))
    intruder = Turn(user_id="user-2", conversation_id=turn.conversation_id)
    for event in (intruder.requested(), intruder.started(), intruder.replied()):
        with pytest.raises(DataRejectedError) as refused:
            await writer.store(log.batch(event))
        assert refused.value.constraint == ISOLATION_CONSTRAINT
    assert await rows(databases, intruder) == {"conversations": [], "turns": [], "messages": []}


async def test_a_turn_stays_in_the_conversation_where_it_was_first(writer: Writer, databases: Databases) -> None:
    turn, log = Turn(), FakeLog()
    elsewhere = Turn(turn_id=turn.turn_id)
    await writer.store(log.batch(turn.requested(), elsewhere.requested(), elsewhere.replied()))
    assert await shown(databases, turn) == [("user", turn.content, "queued")]
    assert await shown(databases, elsewhere) == []


async def test_replay_after_a_delete_brings_nothing_back(
    writer: Writer, databases: Databases, clock: TestClock
) -> None:
    turn, log = Turn(), FakeLog()
    log.add(turn.requested(), turn.started())
    await writer.store(batch_of(log.records))
    assert await databases.api.as_user(
        turn.user_id, lambda c: conversations.erase(c, turn.user_id, turn.conversation_id, clock())
    )
    late = turn.next()
    log.add(turn.replied(), late.requested(), late.replied())
    await writer.store(batch_of(log.records))
    assert await rows(databases, turn) == {"conversations": [], "turns": [], "messages": []}


async def test_positions_follow_the_batch_even_backwards(writer: Writer, databases: Databases) -> None:
    async def positions(connection: Any) -> dict[tuple[str, int], int]:
        found = await connection.execute(text("SELECT topic, partition, next_offset FROM log_positions"))
        return {(row[0], row[1]): row[2] for row in found}

    first, second = TopicPartition(CHAT_REQUESTED, 3), TopicPartition(CHAT_REPLIED, 3)
    await writer.store(Batch([], {first: 10, second: 4}))
    await writer.store(Batch([], {first: 2}))
    assert await databases.api.as_nobody(positions) == {tuple(first): 2, tuple(second): 4}


async def test_a_value_that_postgresql_cannot_hold_is_the_datas_fault(writer: Writer) -> None:
    turn, log = Turn(user_id="user\x001"), FakeLog()
    with pytest.raises(DataRejectedError):
        await writer.store(log.batch(turn.requested()))
    huge = Turn()
    with pytest.raises(DataRejectedError):
        await writer.store(log.batch(huge.started(attempt=2**40)))
