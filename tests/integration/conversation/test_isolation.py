"""Row-level security, tried as the roles that the services have: nobody reaches another user's rows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from tests.integration.conversation.events import FakeLog, Turn
from tests.integration.conversation.support import Databases, Urls

from logue_conversation.database import Database, make_engine
from logue_conversation.errors import StoreUnavailableError
from logue_conversation.writer import Writer

USER_TABLES = ("conversations", "turns", "messages")
ATTEMPTS = [
    "UPDATE conversations SET title = 'mine'",
    "DELETE FROM conversations",
    "DELETE FROM turns",
    "DELETE FROM messages",
]


@pytest.fixture
async def turn(writer: Writer) -> Turn:
    """A stored turn of a victim."""
    turn = Turn(user_id="victim")
    await writer.store(FakeLog().batch(turn.requested(), turn.replied()))
    return turn


async def counts(database: Database, user_id: str | None) -> dict[str, int]:
    async def look(connection: Any) -> dict[str, int]:
        return {
            name: await connection.scalar(text(f"SELECT count(*) FROM {name}")) for name in (*USER_TABLES, "tombstones")
        }

    return await (database.as_nobody(look) if user_id is None else database.as_user(user_id, look))


async def test_another_user_and_nobody_see_no_row(turn: Turn, databases: Databases) -> None:
    assert await counts(databases.api, "victim") == {"conversations": 1, "turns": 1, "messages": 2, "tombstones": 0}
    nothing = {"conversations": 0, "turns": 0, "messages": 0, "tombstones": 0}
    for user_id in ("attacker", "", "%", None):
        assert await counts(databases.api, user_id) == nothing


@pytest.mark.parametrize("statement", ATTEMPTS)
async def test_another_user_changes_no_row(turn: Turn, databases: Databases, statement: str) -> None:
    async def attack(connection: Any) -> int:
        return int((await connection.execute(text(statement))).rowcount)

    assert await databases.api.as_user("attacker", attack) == 0
    assert (await counts(databases.api, "victim"))["messages"] == 2


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO conversations (user_id, id) VALUES ('victim', gen_random_uuid())",
        "INSERT INTO tombstones VALUES ('victim', gen_random_uuid(), now())",
        "INSERT INTO outbox (user_id, topic, key, headers, value) VALUES ('victim', 't', 'k', '[]', '')",
        "INSERT INTO messages (user_id, id) VALUES ('attacker', gen_random_uuid())",
        "UPDATE turns SET status = 'completed'",
        "SELECT * FROM outbox",
        "ALTER TABLE messages DISABLE ROW LEVEL SECURITY",
        "SET ROLE logue_owner",
        "SET row_security = off; SELECT 1",
    ],
)
async def test_the_api_role_is_refused_what_it_has_no_business_with(
    turn: Turn, databases: Databases, statement: str
) -> None:
    async def attack(connection: Any) -> None:
        for part in statement.split("; "):
            await connection.execute(text(part))
        await connection.execute(text("SELECT * FROM messages"))

    with pytest.raises(StoreUnavailableError, match="42501"):
        await databases.api.as_user("attacker", attack)


async def test_the_writer_sees_the_users_of_its_batch_only(turn: Turn, databases: Databases) -> None:
    async def look(connection: Any) -> list[int]:
        return [await connection.scalar(text(f"SELECT count(*) FROM {name}")) for name in USER_TABLES]

    assert await databases.writer.as_users(["someone", "victim"], look) == [1, 1, 2]
    assert await databases.writer.as_users(["someone", "victim "], look) == [0, 0, 0]
    assert await databases.writer.as_users([], look) == [0, 0, 0]
    assert await databases.writer.as_nobody(look) == [0, 0, 0]


async def test_the_relay_role_reads_no_text_and_no_finished_turn(turn: Turn, databases: Databases) -> None:
    async def live(connection: Any) -> int:
        return int(await connection.scalar(text("SELECT count(id) FROM turns")))

    assert await databases.relay.as_nobody(live) == 0
    for table, column in (("messages", "content"), ("conversations", "title"), ("turns", "metadata")):
        with pytest.raises(StoreUnavailableError, match="42501"):
            await databases.relay.as_nobody(
                lambda connection, t=table, c=column: connection.execute(text(f"SELECT {c} FROM {t}"))
            )


@pytest.mark.parametrize("prepared", [True, False])
async def test_a_pooled_connection_carries_no_user_to_the_next(turn: Turn, urls: Urls, prepared: bool) -> None:
    database = Database(make_engine(urls.api, pool_size=1, command_seconds=10, prepared=prepared))

    async def pid(connection: Any) -> Any:
        return await connection.scalar(text("SELECT pg_backend_pid()"))

    async def stumble(connection: Any) -> None:
        await connection.execute(text("SELECT count(*) FROM messages"))
        await connection.execute(text("SELECT 1 / 0"))

    try:
        first = await database.as_user("victim", pid)
        assert (await counts(database, "victim"))["messages"] == 2
        assert (await counts(database, None))["messages"] == 0
        with pytest.raises(Exception, match="22012"):
            await database.as_user("victim", stumble)
        assert (await counts(database, None))["messages"] == 0
        # Interleaved users on the one connection, some of them cancelled half-way.
        tasks = [asyncio.create_task(counts(database, user)) for user in ("victim", "attacker") * 20]
        await asyncio.sleep(0.01)
        for task in tasks[::7]:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        for index, answer in enumerate(found):
            if isinstance(answer, dict):
                assert answer["messages"] == (2 if index % 2 == 0 else 0)
        assert await database.as_nobody(pid) == first
    finally:
        await database.close()


async def test_cancelled_callers_leave_no_connection_behind(urls: Urls) -> None:
    database = Database(make_engine(urls.api, pool_size=2, command_seconds=10))
    try:
        for _ in range(10):
            sleepers = [
                asyncio.create_task(database.as_user("u", lambda c: c.execute(text("SELECT pg_sleep(0.02)"))))
                for _ in range(2)
            ]
            await asyncio.sleep(0.005)
            for sleeper in sleepers:
                sleeper.cancel()
            await asyncio.gather(*sleepers, return_exceptions=True)
        async with asyncio.timeout(5):
            assert (await counts(database, "u"))["messages"] == 0
    finally:
        await database.close()
    assert database._engine.pool.checkedout() == 0  # type: ignore[attr-defined]
