"""A stream that broke goes on at any gateway, from any event, at any time; nothing is missing and nothing is twice."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from uuid import uuid4

import pytest
from tests.e2e.client import Client
from tests.e2e.sse import Shown
from tests.e2e.world import World

_TOKENS = 40
_TEXT = " ".join(f"w{n}" for n in range(1, _TOKENS + 1))


async def _whole(client: Client) -> tuple[str, Shown]:
    stream = client.stream("{{tokens=5 gap=0.02}} short")
    shown = await stream.to_end()
    assert stream.turn_id is not None
    return stream.turn_id, shown


async def test_resume_at_every_event_while_live_and_after_the_end_yields_the_same_text(client: Client) -> None:
    stream = client.stream(f"{{{{tokens={_TOKENS} gap=0.05}}}} {uuid4().hex}")
    boundaries: list[Shown] = []
    async with asyncio.TaskGroup() as group, aclosing(stream.events()) as events:
        live = []
        async for _ in events:
            if stream.shown.ending is None:
                assert stream.turn_id is not None
                boundaries.append(stream.shown.until_now())
                resumed = client.resume(stream.turn_id, stream.shown.until_now())
                live.append(group.create_task(resumed.to_end()))
    assert stream.shown.text == _TEXT
    assert [task.result().text for task in live] == [_TEXT] * len(live)
    assert stream.turn_id is not None
    later = await asyncio.gather(*(client.resume(stream.turn_id, shown).to_end() for shown in boundaries))
    assert [shown.text for shown in later] == [_TEXT] * len(boundaries)
    ends = [shown.ending for shown in [*later, *(task.result() for task in live)]]
    assert stream.shown.ending is not None
    assert all(end is not None and end.data == stream.shown.ending.data for end in ends)
    assert len(boundaries) > _TOKENS / 2, "tokens that are 50 ms apart are shown one by one"
    assert all(shown.names.count("turn.started") <= 1 for shown in later)


async def test_events_without_an_id_start_from_the_beginning(client: Client) -> None:
    accepted = await client.ask(f"{{{{tokens={_TOKENS} gap=0.05}}}} {uuid4().hex}")
    await asyncio.sleep(0.7)
    for _ in range(2):  # in the middle, and after the end
        shown = await client.resume(accepted["turn_id"]).to_end()
        assert shown.text == _TEXT
        assert "turn.started" not in shown.names
        await client.ended(accepted["turn_id"])


async def test_the_id_of_the_end_needs_no_more_events(client: Client) -> None:
    turn_id, shown = await _whole(client)
    answer = await client.request("GET", f"turns/{turn_id}/events", headers={"Last-Event-ID": shown.last_id})
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize(
    "garbled", ["garbage", "0", "-1.-1.-1.-1.x", "{id}x", "x{id}", "{cut}", "9{id}9", "é", "' OR 1=1 --"]
)
async def test_an_id_that_is_none_is_refused(client: Client, garbled: str) -> None:
    turn_id, shown = await _whole(client)
    header = garbled.format(id=shown.last_id, cut=shown.last_id[:-1]).encode()
    answer = await client.request("GET", f"turns/{turn_id}/events", headers={b"Last-Event-ID": header})  # type: ignore[dict-item]
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


async def test_an_id_of_another_turn_is_refused(client: Client) -> None:
    (turn_id, _), (_, other) = await asyncio.gather(_whole(client), _whole(client))
    for event in other.events:
        answer = await client.request("GET", f"turns/{turn_id}/events", headers={"Last-Event-ID": event.id})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


async def test_what_one_gateway_accepted_every_other_knows_at_once(client: Client, world: World) -> None:
    """Read, resume and cancel right after a 202 elsewhere: never 404."""

    async def one(number: int) -> None:
        first = client.pick()
        accepted = await client.ask(f"{{{{tokens=20 gap=0.1}}}} {uuid4().hex}", gateway=first)
        elsewhere, turn = client.pick(other_than=first), f"turns/{accepted['turn_id']}"
        match number % 4:
            case 0:
                found = await client.get(turn, gateway=elsewhere)
                assert found["conversation_id"] == accepted["conversation_id"]
                assert found["status"] in {"queued", "in_progress"}
            case 1:
                shown = await client.resume(accepted["turn_id"], gateway=elsewhere).to_end()
                assert shown.text == " ".join(f"w{n}" for n in range(1, 21))
            case 2:
                answer = await client.request("POST", f"{turn}/cancel", gateway=elsewhere)
                assert answer.status_code == 202 or world.disturbed, answer.text
                assert (await client.ended(accepted["turn_id"]))["status"] == "cancelled"
            case 3:
                path = f"conversations/{accepted['conversation_id']}"
                assert (await client.get(path, gateway=elsewhere))["id"] == accepted["conversation_id"]
                question, *_ = await client.messages(accepted["conversation_id"])
                assert question["turn_id"] == accepted["turn_id"]

    async with asyncio.TaskGroup() as group:
        for number in range(16):
            group.create_task(one(number))
