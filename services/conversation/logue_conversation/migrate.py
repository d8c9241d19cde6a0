"""Brings the database to the newest schema: `python -m logue_conversation.migrate`.

Idempotent; two at once wait for each other. Needs a session of its own: connect to PostgreSQL directly, not through a
transaction pooler.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from logue_common.errors import StartupError
from logue_conversation import roles
from logue_conversation.database import make_engine
from logue_conversation.settings import MigrationSettings

#: Any number that no other user of the database's advisory locks takes.
_LOCK = 0x4C6F677565
#: An index on a large table takes its time.
_STATEMENT_SECONDS = 3600.0
#: How long a lock on a table is waited for before everything is let go and tried again.
_LOCK_WAIT = "1s"
_PAUSE_SECONDS = 2.0
#: SQLSTATEs of a lock that was not to be had, and of a deadlock.
_BUSY = ("55P03", "40P01")


async def migrate(settings: MigrationSettings) -> None:
    """Create or update roles, then tables. Raises StartupError with a sentence that says what to change."""
    logins = [
        roles.Login.from_url(settings.database_url.get_secret_value(), roles.API, "LOGUE_DATABASE_URL"),
        roles.Login.from_url(
            settings.database_writer_url.get_secret_value(), roles.WRITER, "LOGUE_DATABASE_WRITER_URL"
        ),
        roles.Login.from_url(settings.database_relay_url.get_secret_value(), roles.RELAY, "LOGUE_DATABASE_RELAY_URL"),
    ]
    engine = make_engine(
        settings.database_owner_url.get_secret_value(), pool_size=1, command_seconds=_STATEMENT_SECONDS
    )
    try:
        while True:
            try:
                await _migrate_once(engine, logins)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in _BUSY:
                    raise
                # Services are at work, and must not wait for us.
                print("A table is in use; the migration tries again.", file=sys.stderr)  # noqa: T201
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return
    except (OSError, TimeoutError) as error:
        raise StartupError(f"PostgreSQL cannot be reached at LOGUE_DATABASE_OWNER_URL: {error}") from error
    finally:
        await engine.dispose()


async def _migrate_once(engine: AsyncEngine, logins: list[roles.Login]) -> None:
    async with engine.begin() as connection:
        # Held to the end of the transaction; PostgreSQL's DDL is transactional, so all of it or nothing happens.
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        # Whoever reads or writes queues behind a lock that waits.
        await connection.execute(text("SELECT set_config('lock_timeout', :limit, true)"), {"limit": _LOCK_WAIT})
        for login in logins:
            await roles.ensure_role(connection, login)
        await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def main() -> int:
    """The command. Answers with a sentence and an exit code."""
    try:
        asyncio.run(migrate(MigrationSettings.load()))
    except (StartupError, SQLAlchemyError) as error:
        print(f"The database was not migrated. {error}", file=sys.stderr)  # noqa: T201 (a command's answer)
        return 1
    print("The database has the newest schema.")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
