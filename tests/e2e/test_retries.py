"""A retry with the same Idempotency-Key is the same turn, wherever and whenever it comes."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from tests.e2e.client import Client, NewClient, new_key
from tests.e2e.world import World


def _assert_asked_once(world: World, message: str, kills_before: int) -> None:
    """One call of the model, and one more at most for each agent that was killed on it."""
    assert 1 <= world.model_calls(message) <= 1 + world.agent_kills - kills_before


async def _twelve(client: Client, message: str, key: str) -> list[dict[str, object]]:
    gateways = client.gateways()
    answers = [client.chat(message, key=key, gateway=gateways[n % len(gateways)]) for n in range(12)]
    return list(await asyncio.gather(*answers))


@pytest.mark.parametrize("round_", range(3))
async def test_twelve_simultaneous_retries_ask_the_model_once(client: Client, world: World, round_: int) -> None:
    message, kills = f"{{{{tokens=10 gap=0.05}}}} {uuid4().hex}", world.agent_kills
    first, *others = await _twelve(client, message, new_key())
    assert others == [first] * 11
    _assert_asked_once(world, message, kills)
    assert len(await client.messages(str(first["conversation_id"]), after_turn=first["turn_id"])) == 2


async def test_twelve_simultaneous_streams_with_one_key_show_the_same(client: Client, world: World) -> None:
    message, key, kills = f"{{{{tokens=20 gap=0.05}}}} {uuid4().hex}", new_key(), world.agent_kills
    gateways = client.gateways()
    streams = [client.stream(message, key=key, gateway=gateways[n % len(gateways)]) for n in range(12)]
    shown = await asyncio.gather(*(stream.to_end() for stream in streams))
    assert [each.text for each in shown] == [" ".join(f"w{n}" for n in range(1, 21))] * 12
    assert len({stream.turn_id for stream in streams}) == 1
    ends = [each.ending for each in shown]
    assert all(end is not None and ends[0] is not None and end.data == ends[0].data for end in ends)
    _assert_asked_once(world, message, kills)


async def test_retries_in_a_known_conversation_are_one_turn_too(client: Client, world: World) -> None:
    conversation = (await client.chat("first"))["conversation_id"]
    message, key, kills = f"{{{{tokens=10 gap=0.05}}}} {uuid4().hex}", new_key(), world.agent_kills
    first, *others = await asyncio.gather(
        *(client.chat(message, key=key, conversation_id=conversation) for _ in range(12))
    )
    assert others == [first] * 11
    _assert_asked_once(world, message, kills)
    assert len(await client.messages(conversation, after_turn=first["turn_id"])) == 4


async def test_a_late_retry_gets_the_same_answer_without_asking_the_model(client: Client, world: World) -> None:
    message, key = f"a late retry {uuid4().hex}", new_key()
    first = await client.chat(message, key=key)
    await client.ended(first["turn_id"])
    asked = world.model_calls(message)
    answers = await asyncio.gather(*(client.chat(message, key=key) for _ in range(4)))
    assert answers == [first] * 4
    shown = await client.read(message, key=key)
    assert shown.ending is not None
    assert (shown.text, shown.ending.data) == (first["message"]["content"], first)
    assert world.model_calls(message) == asked


async def test_another_body_under_the_same_key_is_an_error_at_every_gateway(client: Client, world: World) -> None:
    message, key = f"{{{{tokens=20 gap=0.05}}}} {uuid4().hex}", new_key()
    accepted = await client.ask(message, key=key)
    for _ in range(2):  # while it runs, and after its end
        answers = await asyncio.gather(*(client.post(f"{message}!", key=key, gateway=at) for at in client.gateways()))
        assert [(a.status_code, a.json()["code"]) for a in answers] == [(409, "idempotency_mismatch")] * 2
        await client.ended(accepted["turn_id"])
    assert world.model_calls(f"{message}!") == 0


async def test_the_same_key_of_another_user_is_another_turn(client: Client, new_client: NewClient) -> None:
    other, key = new_client(), new_key()
    mine, theirs = await asyncio.gather(client.chat("hello", key=key), other.chat("hello", key=key))
    assert mine["turn_id"] != theirs["turn_id"]
    assert mine["conversation_id"] != theirs["conversation_id"]
