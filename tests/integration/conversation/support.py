"""What the fixtures hand out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from logue_conversation.database import Database
from logue_conversation.settings import MigrationSettings
from logue_devstack.postgres import Postgres


@dataclass(frozen=True)
class Urls:
    """One database, as its owner and as the three roles."""

    owner: str
    api: str
    writer: str
    relay: str

    def migration_settings(self) -> MigrationSettings:
        return MigrationSettings(
            database_owner_url=self.owner,
            database_url=self.api,
            database_writer_url=self.writer,
            database_relay_url=self.relay,
        )


class TestClock:
    """Moves a second on at every look."""

    __test__ = False

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def urls_of(server: Postgres, database: str, owner: str) -> Urls:
    return Urls(
        owner, *(server.url(f"logue_{role}", f"{role}-secret", database) for role in ("api", "writer", "relay"))
    )


@dataclass(frozen=True)
class Databases:
    """The database as the three roles."""

    api: Database
    writer: Database
    relay: Database
