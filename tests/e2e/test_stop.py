"""Stop is obeyed whether a turn runs or waits; what was said until then is kept; going away stops nothing."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from tests.e2e.client import Client, NewClient
from tests.e2e.world import World

_LONG = "{{tokens=5000 gap=0.05}}"


async def test_the_partial_reply_of_a_stopped_turn_is_kept_and_marked(client: Client) -> None:
    stream = client.stream(f"{_LONG} {uuid4().hex}")
    await stream.until(deltas=5)
    assert stream.turn_id is not None
    watching = asyncio.create_task(client.resume(stream.turn_id, stream.shown).to_end())
    await client.cancel(stream.turn_id)
    shown = await watching
    assert shown.ending is not None
    assert (shown.ending.name, shown.ending.data["turn_id"]) == ("turn.cancelled", stream.turn_id)
    assert shown.ending.data["content"] == shown.text
    assert shown.text.startswith("w1 w2 w3")
    turn = await client.ended(stream.turn_id)
    assert (turn["status"], turn["message"]["content"]) == ("cancelled", shown.text)
    question, reply = await client.messages(turn["conversation_id"], after_turn=stream.turn_id)
    assert (reply["status"], reply["content"]) == ("cancelled", shown.text)
    assert reply["parent_id"] == question["id"]
    again = await client.resume(stream.turn_id).to_end()
    assert (again.text, again.ending and again.ending.name) == (shown.text, "turn.cancelled")


async def test_a_caller_who_waits_for_json_gets_the_partial_reply(client: Client) -> None:
    message = f"{_LONG} {uuid4().hex}"
    asked = asyncio.create_task(client.post(message, key=(key := uuid4().hex)))
    stream = client.stream(message, key=key)
    await stream.until(deltas=3)
    assert stream.turn_id is not None
    await client.cancel(stream.turn_id)
    answer = await asked
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    turn = await client.ended(stream.turn_id)
    assert answer.json()["message"]["content"] == turn["message"]["content"]


async def test_a_waiting_turn_that_is_stopped_never_asks_the_model(client: Client, world: World) -> None:
    running = await client.ask("{{ttft=50}} endless")
    message = f"never heard {uuid4().hex}"
    waiting = await client.ask(message, conversation_id=running["conversation_id"])
    await client.cancel(waiting["turn_id"])
    turn = await client.ended(waiting["turn_id"])
    assert (turn["status"], turn["message"]) == ("cancelled", None)
    await client.cancel(running["turn_id"])
    assert (await client.ended(running["turn_id"]))["status"] == "cancelled"
    assert (await client.chat("next", conversation_id=running["conversation_id"]))["status"] == "completed"
    assert world.model_calls(message) == 0


async def test_a_turn_is_stopped_right_after_it_was_accepted(client: Client) -> None:
    async def one() -> str:
        accepted = await client.ask(f"{_LONG} {uuid4().hex}")
        await client.cancel(accepted["turn_id"])
        found: str = (await client.ended(accepted["turn_id"]))["status"]
        return found

    assert await asyncio.gather(*(one() for _ in range(8))) == ["cancelled"] * 8


async def test_what_is_over_cannot_be_stopped(client: Client) -> None:
    turn = await client.ended((await client.chat("over"))["turn_id"])
    answers = await asyncio.gather(
        *(client.request("POST", f"turns/{turn['turn_id']}/cancel", gateway=at) for at in client.gateways())
    )
    assert [(a.status_code, a.json()["code"]) for a in answers] == [(409, "turn_finished")] * 2
    assert (await client.get(f"turns/{turn['turn_id']}"))["status"] == "completed"


async def test_nobody_else_stops_a_turn(client: Client, new_client: NewClient) -> None:
    accepted, other = await client.ask("{{tokens=30 gap=0.05}} mine"), new_client()
    answer = await other.request("POST", f"turns/{accepted['turn_id']}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (404, "turn_not_found")
    answer = await other.request("POST", f"/api/{client.user}/turns/{accepted['turn_id']}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert (await client.ended(accepted["turn_id"]))["status"] == "completed"


async def test_a_client_that_goes_away_stops_nothing(client: Client) -> None:
    stream = client.stream(f"{{{{tokens=40 gap=0.05}}}} {uuid4().hex}")
    await stream.until(deltas=3)
    assert stream.turn_id is not None
    turn = await client.ended(stream.turn_id)
    assert (turn["status"], turn["message"]["content"]) == ("completed", " ".join(f"w{n}" for n in range(1, 41)))
