"""What a system does in its life, in half a minute: every service comes to use every right that it has."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

import httpx
from aiokafka import AIOKafkaProducer
from tests.e2e.client import Client
from tests.e2e.sse import Shown
from tests.integration.security.secured import ADMIN, SecuredKafka

from logue_common.events import AttemptStarted, encode, event_headers
from logue_common.ids import new_id
from logue_common.settings import TopicSettings
from logue_common.topics import CHAT_PROGRESSED, CHAT_REQUESTED, ensure_topics
from logue_devstack.stack import Stack

_USER = "user-1"
_SECONDS = 20.0
_LONG = "{{tokens=2000 gap=0.05}} long"


@dataclass(frozen=True, slots=True)
class Life:
    """What its client saw."""

    answer: dict[str, Any]
    streamed: Shown
    resumed: Shown
    #: A turn that was stopped by hand, one whose conversation was deleted, one that no request belongs to.
    stopped: dict[str, Any]
    deleted: Shown
    lost: dict[str, Any]
    #: Status of the deleted conversation.
    after_deletion: int
    topics_made_again: list[str]


async def live(stack: Stack, broker: SecuredKafka) -> Life:
    """Raises what a client of the system would see."""
    async with httpx.AsyncClient(timeout=httpx.Timeout(40.0, connect=5.0)) as http:
        client = Client(http, lambda: stack.gateway_urls, _USER, stack.token(_USER), Random(0))
        answer = await client.chat("hello")
        streamed = await client.read("{{tokens=20 gap=0.02}} stream")
        resumed = await _resumed(client)
        running = await client.ask(_LONG)
        await client.cancel(running["turn_id"])
        stopped = await client.ended(running["turn_id"])
        deleted, after_deletion = await _delete_while_it_runs(client)
        await _write_nonsense(broker)
        lost = await _lost(client, await _begin_nothing(broker))
        made = await ensure_topics(broker.settings_of("logue-topics"), TopicSettings())
    return Life(answer, streamed, resumed, stopped, deleted, lost, after_deletion, made)


async def _resumed(client: Client) -> Shown:
    stream = client.stream("{{tokens=40 gap=0.05}} resume")
    await stream.until(deltas=3)
    assert stream.turn_id is not None
    return await client.resume(stream.turn_id, stream.shown).to_end()


async def _delete_while_it_runs(client: Client) -> tuple[Shown, int]:
    """The turn is stopped by the conversation service."""
    stream = client.stream(_LONG)
    await stream.until(deltas=2)
    assert stream.turn_id is not None
    assert stream.shown.started is not None
    conversation = f"conversations/{stream.shown.started['conversation_id']}"
    assert (await client.request("DELETE", conversation)).status_code == 204
    shown = await client.resume(stream.turn_id, stream.shown).to_end()
    return shown, (await client.request("GET", conversation)).status_code


async def _write_nonsense(broker: SecuredKafka) -> None:
    """Whoever reads it sends it to chat.dlq."""
    async with AIOKafkaProducer(**broker.settings_of(ADMIN).client_options()) as producer:
        await producer.send_and_wait(CHAT_REQUESTED, key=b"nobody", value=b"nonsense")


async def _begin_nothing(broker: SecuredKafka) -> str:
    """An attempt at a turn of which nobody has a request; its id."""
    now = datetime.now(UTC)
    turn_id, conversation_id = new_id(), new_id()
    event = AttemptStarted(user_id=_USER, conversation_id=conversation_id, turn_id=turn_id, attempt=1, started_at=now)
    headers = event_headers(event, source="test", at=now)
    async with AIOKafkaProducer(**broker.settings_of(ADMIN).client_options()) as producer:
        await producer.send_and_wait(
            CHAT_PROGRESSED, key=conversation_id.encode(), value=encode(event), headers=headers
        )
    return turn_id


async def _lost(client: Client, turn_id: str) -> dict[str, Any]:
    """The turn when it is over. At first it is unknown: nobody was told that it exists."""
    async with asyncio.timeout(_SECONDS):
        while (await client.request("GET", f"turns/{turn_id}")).status_code == 404:
            await asyncio.sleep(0.1)
    return await client.ended(turn_id)
