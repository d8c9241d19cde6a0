"""Anything may die in the middle of a reply: what is shown is what is stored, and nothing is lost.

Each of these tests makes its own trouble; those of agents run on Apache Kafka, which finds dead members by itself.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from tests.e2e.client import Client, Stream
from tests.e2e.sse import Shown
from tests.e2e.test_order import contents, digests
from tests.e2e.world import World

on_kafka = pytest.mark.once("disturbed")
on_stand_in = pytest.mark.once("calm")
#: Enough for both agents to own some of them.
_CONVERSATIONS = 12


def _count_to(tokens: int) -> str:
    return " ".join(f"w{n}" for n in range(1, tokens + 1))


async def _started(streams: list[Stream], deltas: int = 3) -> list[asyncio.Task[Shown]]:
    """Reads all the streams in the background; returns when each has shown something."""
    running = [asyncio.create_task(stream.to_end()) for stream in streams]
    async with asyncio.timeout(30):
        while not all(stream.shown.names.count("message.delta") >= deltas for stream in streams):
            await asyncio.sleep(0.05)
    return running


async def _assert_shown_is_stored(client: Client, streams: list[Stream], text: str | None = None) -> None:
    for stream in streams:
        assert stream.turn_id is not None
        assert stream.shown.ending is not None
        assert stream.shown.ending.name == "message.completed", stream.shown.ending
        body = stream.shown.ending.data
        assert stream.shown.text == body["message"]["content"]
        assert text is None or stream.shown.text == text
        turn = await client.ended(stream.turn_id)
        assert turn["message"]["content"] == stream.shown.text
        stored = await client.messages(body["conversation_id"], after_turn=stream.turn_id)
        assert [message["role"] for message in stored] == ["user", "assistant"]
        assert stored[1]["content"] == stream.shown.text


@on_kafka
async def test_agent_killed_in_mid_reply(client: Client, quiet: World) -> None:
    streams = [client.stream(f"{{{{tokens=40 gap=0.1}}}} {uuid4().hex}") for _ in range(_CONVERSATIONS)]
    running = await _started(streams)
    await asyncio.to_thread(quiet.stack.kill, "agent-0", restart=False)
    await asyncio.gather(*running)
    await _assert_shown_is_stored(client, streams, _count_to(40))
    resets = [stream.shown.names.count("message.reset") for stream in streams]
    assert set(resets) == {0, 1}, "turns of the dead agent start over once, the others go on"


@on_kafka
async def test_agent_frozen_in_mid_reply_wakes_after_its_turns_were_taken_over(client: Client, quiet: World) -> None:
    streams = [client.stream(f"{{{{tokens=120 gap=0.1}}}} {uuid4().hex}") for _ in range(_CONVERSATIONS)]
    running = await _started(streams)
    await asyncio.to_thread(quiet.stack.pause, "agent-1")
    async with asyncio.timeout(30):
        while not any("message.reset" in stream.shown.names for stream in streams):
            await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    await asyncio.to_thread(quiet.stack.resume, "agent-1")
    await asyncio.gather(*running)
    await _assert_shown_is_stored(client, streams, _count_to(120))


@on_stand_in
async def test_partition_that_comes_back_to_an_agent_has_the_whole_context(client: Client, quiet: World) -> None:
    conversations = [(await client.chat("{{context}} 0"))["conversation_id"] for _ in range(6)]

    async def turn(conversation: str, n: int) -> None:
        reply = await client.chat(f"{{{{context}}}} {n}", conversation_id=conversation)
        messages = await client.messages(conversation, after_turn=reply["turn_id"])
        assert len(messages) == 2 * n + 2
        assert json.loads(reply["message"]["content"]) == digests(*contents(messages)[:-1])

    n = 0
    for away in ("agent-0", "agent-1", "agent-0"):
        await asyncio.to_thread(quiet.stack.kill, away, restart=False)
        n += 1
        await asyncio.gather(*(turn(conversation, n) for conversation in conversations))
        await asyncio.to_thread(quiet.stack.start_one, away)
        n += 1
        await asyncio.gather(*(turn(conversation, n) for conversation in conversations))


@on_stand_in
async def test_gateway_killed_in_mid_stream(client: Client, quiet: World) -> None:
    """The rest of the reply is read at the other one: no token is missing or doubled, none needs a snapshot."""
    doomed, other = quiet.stack.gateway_urls
    streams = [
        client.stream(f"{{{{tokens=60 gap=0.05}}}} {uuid4().hex}", gateway=gateway) for gateway in (doomed, other) * 4
    ]
    running = await _started(streams)
    await asyncio.to_thread(quiet.stack.kill, "gateway-0", restart=False)
    await asyncio.gather(*running)
    await _assert_shown_is_stored(client, streams, _count_to(60))
    assert all(stream.connections > 1 for stream in streams[::2])
    assert {name for stream in streams for name in stream.shown.names[1:-1]} == {"message.delta"}


async def _known(client: Client) -> str:
    """A conversation that both gateways and its agent know."""
    conversation = None
    for gateway in client.gateways():
        reply = await client.chat("{{echo}} known", conversation_id=conversation, gateway=gateway)
        conversation = reply["conversation_id"]
    return str(conversation)


@on_stand_in
@pytest.mark.parametrize("dead", ["conversation", "postgres"])
async def test_known_conversations_go_on_without_the_store(client: Client, quiet: World, dead: str) -> None:
    conversation = await _known(client)
    await asyncio.to_thread(quiet.stack.kill, dead, restart=False)
    began = asyncio.get_running_loop().time()
    for n in range(3):
        reply = await client.chat(f"{{{{echo}}}} {n}", conversation_id=conversation, key=None)
        assert reply["message"]["content"] == str(n)
        stream = client.stream(f"{{{{tokens=20 gap=0.02}}}} {n}", conversation_id=conversation, key=None)
        await stream.until(deltas=2)
        assert stream.turn_id is not None
        resumed = await client.resume(stream.turn_id, stream.shown).to_end()
        assert resumed.text == _count_to(20)
    assert asyncio.get_running_loop().time() - began < 15
    answer = await client.request("GET", f"conversations/{conversation}", retry=False)
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (503, "unavailable", True)
    await asyncio.to_thread(quiet.stack.start_one, dead)
    last = await client.chat("{{echo}} back", conversation_id=conversation)
    stored = contents(await client.messages(conversation, after_turn=last["turn_id"]))[1::2]
    assert stored == ["known", "known", "0", _count_to(20), "1", _count_to(20), "2", _count_to(20), "back"]


async def _stored(client: Client, conversations: list[str]) -> list[Any]:
    return [(await client.get(f"conversations/{each}"), await client.messages(each)) for each in conversations]


async def _some_conversations(client: Client) -> list[str]:
    replies = await asyncio.gather(*(client.chat(f"{{{{echo}}}} {n} \x00 😀") for n in range(8)))
    for reply in replies:
        await client.ended(reply["turn_id"])
    return [reply["conversation_id"] for reply in replies]


@on_stand_in
async def test_broker_killed_with_its_tail(client: Client, quiet: World) -> None:
    """The stand-in loses what it had not written; what is stored stays, and everything works again."""
    conversations = await _some_conversations(client)
    before = await _stored(client, conversations)
    for _ in range(2):
        await asyncio.to_thread(quiet.stack.kill, "broker", restart=False)
        answer = await client.post("?", key=None)
        assert (answer.status_code, answer.json()["code"]) in {(503, "unavailable"), (503, "accept_unknown")}
        assert int(answer.headers["retry-after"]) >= 1
        await asyncio.to_thread(quiet.stack.start_one, "broker")
        assert await _stored(client, conversations) == before
        await _go_on(client, conversations)
        before = await _stored(client, conversations)


async def _go_on(client: Client, conversations: list[str]) -> None:
    replies = await asyncio.gather(*(client.chat("{{context}} next", conversation_id=each) for each in conversations))
    for conversation, reply in zip(conversations, replies, strict=True):
        messages = contents(await client.messages(conversation, after_turn=reply["turn_id"]))
        assert json.loads(reply["message"]["content"]) == digests(*messages[:-1])
    assert (await client.read("{{tokens=3}} new")).text == "w1 w2 w3"


async def test_everything_is_there_after_a_restart_of_everything(client: Client, quiet: World) -> None:
    conversations = await _some_conversations(client)
    stream = client.stream("{{tokens=10}} ten")
    shown = await stream.to_end()
    before = await _stored(client, conversations)
    await asyncio.to_thread(quiet.restart)
    assert await _stored(client, conversations) == before
    assert stream.turn_id is not None
    assert (await client.resume(stream.turn_id).to_end()).text == shown.text
    await _go_on(client, conversations)


@on_kafka
async def test_turn_is_answered_although_every_service_died(client: Client, quiet: World) -> None:
    accepted = await client.ask(f"{{{{tokens=100 gap=0.05}}}} {uuid4().hex}")
    for name in ("agent-0", "agent-1", "gateway-0", "gateway-1", "conversation"):
        await asyncio.to_thread(quiet.stack.kill, name, restart=False)
    await asyncio.to_thread(quiet.stack.wait_ready)
    shown = await client.resume(accepted["turn_id"]).to_end()
    assert shown.text == _count_to(100)
    assert (await client.ended(accepted["turn_id"]))["message"]["content"] == shown.text
