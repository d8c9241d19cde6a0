"""Turns of one conversation run in their order, each with the context of its own path through the tree."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from hashlib import sha256
from typing import Any
from uuid import uuid4

from tests.e2e.client import Client
from tests.e2e.sse import Shown
from tests.e2e.world import World

#: A turn that lasts until it is cancelled.
_ENDLESS = "{{ttft=50}} endless"


def digests(*texts: str) -> list[dict[str, str]]:
    """What `{{context}}` replies: question, reply, question, …"""
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "sha256": sha256(text.encode()).hexdigest()} for i, text in enumerate(texts)]


def contents(messages: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in messages]


async def test_ten_messages_at_once_are_answered_in_order_each_with_its_context(client: Client) -> None:
    begun = await client.chat("{{context}} 0")
    conversation = begun["conversation_id"]
    replies = await asyncio.gather(
        *(client.chat(f"{{{{context}}}} {n}", conversation_id=conversation) for n in range(1, 11))
    )
    assert {reply["conversation_id"] for reply in replies} == {conversation}
    for reply in replies:
        await client.ended(reply["turn_id"])
    messages = await client.messages(conversation)
    assert [message["role"] for message in messages] == ["user", "assistant"] * 11
    assert sorted(contents(messages)[::2]) == sorted(f"{{{{context}}}} {n}" for n in range(11))
    for index in range(1, 22, 2):
        assert json.loads(messages[index]["content"]) == digests(*contents(messages)[:index])
        assert messages[index]["parent_id"] == messages[index - 1]["id"]
        assert index == 1 or messages[index - 1]["parent_id"] == messages[index - 2]["id"]
    assert {reply["message"]["id"]: reply["message"]["content"] for reply in [begun, *replies]} == {
        message["id"]: message["content"] for message in messages[1::2]
    }


async def test_conversations_do_not_wait_for_each_other(client: Client) -> None:
    slow = await client.ask(_ENDLESS)
    replies = await asyncio.gather(*(client.chat("quick") for _ in range(10)))
    assert {reply["status"] for reply in replies} == {"completed"}
    await client.cancel(slow["turn_id"])
    assert (await client.ended(slow["turn_id"]))["status"] == "cancelled"


async def test_a_waiting_turn_is_told_its_position(client: Client) -> None:
    running = await client.ask(_ENDLESS)
    conversation = running["conversation_id"]
    streams = [client.stream(f"next {n}", conversation_id=conversation) for n in (1, 2)]
    queued = asyncio.gather(*(_first_of(stream.shown, stream.events(), "turn.queued") for stream in streams))
    positions = sorted(event["position"] for event in await queued)
    assert positions == [1, 2]
    await client.cancel(running["turn_id"])
    for stream in streams:
        assert stream.turn_id is not None
        shown = await client.resume(stream.turn_id, stream.shown).to_end()
        assert shown.ending is not None
        assert shown.ending.name == "message.completed"
        assert shown.ending.data["message"]["content"] == shown.text


async def _first_of(shown: Shown, stream: Any, name: str) -> Any:
    async with aclosing(stream) as events:
        async for event in events:
            if event.name == name:
                return event.data
    raise AssertionError(f"no {name} among {shown.names}")


async def test_a_busy_conversation_rejects_on_wish(client: Client, world: World) -> None:
    running = await client.ask(_ENDLESS)
    conversation, message = running["conversation_id"], f"not now {uuid4().hex}"
    answer = await client.post(message, conversation_id=conversation, on_busy="reject")
    assert (answer.status_code, answer.json()["code"]) == (409, "conversation_busy")
    shown = await client.read(f"{message} either", conversation_id=conversation, on_busy="reject")
    assert shown.ending is not None
    assert (shown.ending.name, shown.ending.data["code"]) == ("turn.failed", "conversation_busy")
    await client.cancel(running["turn_id"])
    await client.ended(running["turn_id"])
    assert (await client.chat("now", conversation_id=conversation, on_busy="reject"))["status"] == "completed"
    assert world.model_calls(message) == world.model_calls(f"{message} either") == 0


async def test_an_interrupting_turn_stops_what_runs_and_what_waits(client: Client, world: World) -> None:
    running = client.stream("{{tokens=5000 gap=0.05}} running")
    await running.until(deltas=3)
    assert running.turn_id is not None
    conversation = (await client.get(f"turns/{running.turn_id}"))["conversation_id"]
    unheard = f"never heard {uuid4().hex}"
    waiting = await client.ask(unheard, conversation_id=conversation)
    reply = await client.chat("{{context}} at once", conversation_id=conversation, on_busy="interrupt")
    shown = await client.resume(running.turn_id, running.shown).to_end()
    assert shown.ending is not None
    assert (shown.ending.name, shown.ending.data["content"]) == ("turn.cancelled", shown.text)
    assert shown.text.startswith("w1 w2 w3")
    assert (await client.ended(waiting["turn_id"]))["status"] == "cancelled"
    assert world.model_calls(unheard) == 0
    await client.ended(reply["turn_id"])
    messages = await client.messages(conversation)
    assert contents(messages) == [
        "{{tokens=5000 gap=0.05}} running",
        shown.text,
        unheard,
        "{{context}} at once",
        reply["message"]["content"],
    ]


async def test_sixteen_turns_may_wait_and_no_more(client: Client, world: World) -> None:
    running = await client.ask(_ENDLESS)
    conversation, tag = running["conversation_id"], uuid4().hex
    waiting = [await client.ask(f"{tag} {n}", conversation_id=conversation) for n in range(16)]
    answer = await client.post(f"{tag} one too many", conversation_id=conversation)
    assert (answer.status_code, answer.json()["code"]) == (409, "conversation_busy")
    assert world.model_calls(f"{tag} 0") == 0
    await client.cancel(running["turn_id"])
    ended = await asyncio.gather(*(client.ended(turn["turn_id"]) for turn in waiting))
    assert {turn["status"] for turn in ended} == {"completed"}
    questions = [m["content"] for m in await client.messages(conversation) if m["role"] == "user"]
    assert questions == [_ENDLESS, *(f"{tag} {n}" for n in range(16)), f"{tag} one too many"]


async def test_a_branch_has_the_context_of_its_own_path(client: Client) -> None:
    first = await client.chat("{{context}} one")
    conversation = first["conversation_id"]

    async def say(text: str, **options: Any) -> dict[str, Any]:
        reply = await client.chat(f"{{{{context}}}} {text}", conversation_id=conversation, **options)
        await client.ended(reply["turn_id"])
        return reply["message"]  # type: ignore[no-any-return]

    one = first["message"]
    two = await say("two")
    sibling = await say("sibling of two", parent_id=one["id"])
    root = await say("another beginning", parent_id="root")
    on_root = await say("continues the latest turn")
    again = await say("continues two", parent_id=two["id"])

    trunk = ["{{context}} one", one["content"]]
    to_two = [*trunk, "{{context}} two", two["content"]]
    assert json.loads(sibling["content"]) == digests(*trunk, "{{context}} sibling of two")
    assert json.loads(root["content"]) == digests("{{context}} another beginning")
    rooted = ["{{context}} another beginning", root["content"], "{{context}} continues the latest turn"]
    assert json.loads(on_root["content"]) == digests(*rooted)
    assert json.loads(again["content"]) == digests(*to_two, "{{context}} continues two")

    assert contents(await client.messages(conversation, leaf=two["id"])) == to_two
    branch = contents(await client.messages(conversation, leaf=sibling["id"]))
    assert branch == [*trunk, "{{context}} sibling of two", sibling["content"]]
    assert contents(await client.messages(conversation, leaf=on_root["id"])) == [*rooted, on_root["content"]]
    everything = await client.messages(conversation)
    assert len(everything) == 12
    assert everything[6]["parent_id"] is None


async def test_a_turn_without_parent_follows_the_latest_that_did_not_fail(client: Client) -> None:
    first = await client.chat("fine")
    failed = await client.post("{{fail=400}} not fine", conversation_id=first["conversation_id"])
    assert failed.status_code == 502
    reply = await client.chat("{{context}} next", conversation_id=first["conversation_id"])
    seen = json.loads(reply["message"]["content"])
    assert seen == digests("fine", first["message"]["content"], "{{context}} next")


async def test_a_parent_that_is_not_there_is_an_error(client: Client) -> None:
    first, other = await asyncio.gather(client.chat("here"), client.chat("elsewhere"))
    for parent in (str(uuid4()), other["message"]["id"]):
        answer = await client.post("?", conversation_id=first["conversation_id"], parent_id=parent)
        assert (answer.status_code, answer.json()["code"]) == (404, "message_not_found")
    for leaf in (str(uuid4()), other["message"]["id"]):
        path = f"conversations/{first['conversation_id']}/messages"
        answer = await client.request("GET", path, params={"leaf": leaf})
        assert (answer.status_code, answer.json()["code"]) == (404, "message_not_found")
