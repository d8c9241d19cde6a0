"""The command that makes the schema."""

from __future__ import annotations

import asyncio

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from tests.integration.conversation.events import Turn
from tests.integration.conversation.kafka import records_of, skip_what_is_there
from tests.integration.conversation.support import Urls, eventually, is_ready, open_service

from logue_common.errors import StartupError
from logue_common.ids import new_id
from logue_common.settings import KafkaSettings, TopicSettings
from logue_common.topics import CHAT_DLQ, ensure_topics
from logue_conversation import migrate as migrate_module
from logue_conversation.database import make_engine
from logue_conversation.migrate import migrate
from logue_conversation.settings import MigrationSettings
from logue_conversation.tables import metadata


async def test_two_migrations_at_once_and_one_later_leave_one_schema(empty_urls: Urls) -> None:
    await asyncio.gather(*(migrate(empty_urls.migration_settings()) for _ in range(2)))
    await migrate(empty_urls.migration_settings())

    def difference(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))

    engine = make_engine(empty_urls.owner, pool_size=1, command_seconds=10)
    async with engine.connect() as connection:
        assert await connection.run_sync(difference) == []
    await engine.dispose()


async def test_services_log_in_as_roles_that_own_nothing_and_bypass_nothing(urls: Urls) -> None:
    engine = make_engine(urls.owner, pool_size=1, command_seconds=10)
    async with engine.connect() as connection:
        roles = await connection.execute(
            text(
                "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles"
                " WHERE rolname IN ('logue_api', 'logue_writer', 'logue_relay')"
            )
        )
        tables = await connection.execute(
            text(
                "SELECT relname, relrowsecurity, relforcerowsecurity, pg_get_userbyid(relowner) FROM pg_class"
                " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            )
        )
        found_roles, found_tables = roles.all(), tables.all()
    await engine.dispose()
    assert len(found_roles) == 3
    assert all(not any(attributes) for _, *attributes in found_roles)
    assert {name for name, *_ in found_tables} == {*metadata.tables, "alembic_version"}
    for name, enabled, forced, owner in found_tables:
        assert owner == "logue_owner"
        assert name in ("log_positions", "alembic_version") or (enabled and forced), name


async def test_a_changed_password_works_after_the_next_migration(urls: Urls) -> None:
    changed = urls.relay.replace("relay-secret", "another-secret")
    settings = urls.migration_settings()
    await migrate(MigrationSettings(**{**settings.model_dump(), "database_relay_url": changed}))
    engine = make_engine(changed, pool_size=1, command_seconds=10)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT current_user")) == "logue_relay"
    await engine.dispose()
    await migrate(settings)


async def test_an_address_with_another_role_is_refused(empty_urls: Urls) -> None:
    settings = empty_urls.migration_settings()
    wrong = {**settings.model_dump(), "database_url": empty_urls.writer}
    with pytest.raises(StartupError, match="LOGUE_DATABASE_URL must log in as logue_api"):
        await migrate(MigrationSettings(**wrong))


async def test_a_service_newer_than_the_schema_waits_and_buries_nothing(
    empty_urls: Urls, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        upgrade = command.upgrade
        patched.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
        await migrate(empty_urls.migration_settings())
    await ensure_topics(KafkaSettings(kafka_bootstrap=broker), TopicSettings(partitions=4))
    await skip_what_is_there(broker)
    async with open_service(empty_urls, broker) as service:
        await eventually(lambda: is_ready(service))
        turn = Turn(user_id=f"user-{new_id()}")
        await service.publish(turn.requested(), turn.replied())

        async def waits() -> bool:
            return not await is_ready(service)

        await eventually(waits)
        assert (await service.get(turn.user_id, f"/turns/{turn.turn_id}")).status_code == 503
        await migrate(empty_urls.migration_settings())
        await eventually(lambda: is_ready(service))
        assert len(await service.messages(turn, after_turn=turn.turn_id)) == 2
        assert await records_of(broker, CHAT_DLQ, turn.conversation_id) == []


async def test_a_migration_lets_readers_go_on_while_it_waits_for_a_table(
    empty_urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_module, "_LOCK_WAIT", "100ms")
    monkeypatch.setattr(migrate_module, "_PAUSE_SECONDS", 0.2)
    with monkeypatch.context() as patched:
        upgrade = command.upgrade
        patched.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
        await migrate(empty_urls.migration_settings())
    engine = make_engine(empty_urls.owner, pool_size=2, command_seconds=1)
    async with engine.connect() as holder, engine.connect() as reader:
        await holder.execute(text("LOCK TABLE conversations IN ACCESS SHARE MODE"))
        migrating = asyncio.create_task(migrate(empty_urls.migration_settings()))
        for _ in range(10):  # each would time out after 1 s
            await reader.execute(text("SELECT 1 FROM turns"))
            await reader.rollback()
            await asyncio.sleep(0.1)
        assert not migrating.done()
        await holder.rollback()
        await asyncio.wait_for(migrating, 10)
    await engine.dispose()
