"""The command that makes the schema."""

from __future__ import annotations

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from tests.integration.conversation.support import Urls

from logue_common.errors import StartupError
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
