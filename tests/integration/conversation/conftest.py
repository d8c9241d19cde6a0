"""A migrated database of its own for every test, and what the service builds on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from tests.integration.conversation.support import (
    Databases,
    Service,
    TestClock,
    Urls,
    eventually,
    is_ready,
    open_service,
    urls_of,
)

from logue_common.settings import KafkaSettings, TopicSettings
from logue_common.topics import ensure_topics
from logue_conversation.database import Database, make_engine
from logue_conversation.migrate import migrate
from logue_conversation.writer import Writer
from logue_devstack.postgres import Postgres


@pytest.fixture
def empty_urls(postgres_server: Postgres) -> Urls:
    """A database without tables."""
    name = f"conversation_{uuid4().hex}"
    return urls_of(postgres_server, name, postgres_server.create_database(name))


@pytest.fixture
async def urls(empty_urls: Urls) -> Urls:
    """A migrated database."""
    await migrate(empty_urls.migration_settings())
    return empty_urls


@pytest.fixture
async def databases(urls: Urls) -> AsyncIterator[Databases]:
    built = Databases(
        *(Database(make_engine(url, pool_size=2, command_seconds=10)) for url in (urls.api, urls.writer, urls.relay))
    )
    yield built
    for database in (built.api, built.writer, built.relay):
        await database.close()


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def writer(databases: Databases) -> Writer:
    return Writer(databases.writer)


@pytest.fixture
async def service(urls: Urls, broker: str) -> AsyncIterator[Service]:
    """The service on each kind of broker in turn, with its writer in the group."""
    await ensure_topics(KafkaSettings(kafka_bootstrap=broker), TopicSettings(partitions=4))
    async with open_service(urls, broker) as built:
        await eventually(lambda: is_ready(built))
        yield built
