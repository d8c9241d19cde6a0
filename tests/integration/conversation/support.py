"""What the fixtures hand out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from aiokafka.structs import RecordMetadata
from tests.integration.conversation.events import NOON, TOPIC_OF, Turn

from logue_common.events import ChatCancelRequested, Event, encode, event_headers
from logue_common.producer import Producer
from logue_common.topics import CHAT_CANCELS
from logue_conversation.api.app import create_app
from logue_conversation.bootstrap import Resources
from logue_conversation.database import Database
from logue_conversation.settings import ConversationSettings, MigrationSettings
from logue_conversation.store import turns
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


async def publish(producer: Producer, *events: Event) -> list[RecordMetadata]:
    """Send events one after the other, as gateway and agent do."""
    topic_of: dict[type[Event], str] = {ChatCancelRequested: CHAT_CANCELS}
    topic_of.update(TOPIC_OF)
    return [
        await producer.send(
            topic_of[type(event)],
            key=event.conversation_id,
            value=encode(event),
            headers=event_headers(event, source="test", at=NOON),
        )
        for event in events
    ]


TOKEN = "an-internal-token-for-tests"


@dataclass(frozen=True)
class Service:
    """The whole service, with a client of its internal API and a producer in the place of gateway and agent."""

    http: httpx.AsyncClient
    producer: Producer
    resources: Resources
    bootstrap_servers: str

    async def publish(self, *events: Event) -> list[RecordMetadata]:
        """Send and wait for the broker."""
        return await publish(self.producer, *events)

    async def get(self, user_id: str, path: str, **params: object) -> httpx.Response:
        """GET below the user's prefix."""
        return await self.http.get(f"/internal/users/{user_id}{path}", params={k: str(v) for k, v in params.items()})

    async def messages(self, turn: Turn, **params: object) -> list[dict[str, Any]]:
        """The messages of a conversation as (role, content)."""
        response = await self.get(turn.user_id, f"/conversations/{turn.conversation_id}/messages", **params)
        assert response.status_code == 200, response.text
        items: list[dict[str, Any]] = response.json()["items"]
        return items


@asynccontextmanager
async def open_service(urls: Urls, bootstrap_servers: str, **settings: Any) -> AsyncIterator[Service]:
    """The service in this process, on these servers."""
    built = ConversationSettings(
        kafka_bootstrap=bootstrap_servers,
        internal_token=TOKEN,
        database_url=urls.api,
        database_writer_url=urls.writer,
        database_relay_url=urls.relay,
        **settings,
    )
    app = create_app(built)
    producer = Producer({"bootstrap_servers": bootstrap_servers}, client_id="test")
    producer.start()
    transport = httpx.ASGITransport(app=app)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    try:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://conversation", headers=headers) as client,
        ):
            yield Service(client, producer, app.state.resources, bootstrap_servers)
    finally:
        await producer.close()


async def eventually(condition: Callable[[], Awaitable[object]], seconds: float = 20.0) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


async def has_row(service: Service, user_id: str, turn_id: str) -> bool:
    """Anything about the turn is stored, whether or not its request is."""
    found = await service.resources.api.as_user(user_id, lambda connection: turns.get(connection, user_id, turn_id))
    return found is not None


async def is_ready(built: Service) -> bool:
    """As /readyz says."""
    return (await built.http.get("/readyz")).status_code == 200
