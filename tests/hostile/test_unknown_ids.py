"""Ids that someone makes up: a mass of them holds nobody up, and their answers tell nothing, not even by their time."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from tests.e2e.client import Client, NewClient

from logue_devstack.stack import Stack

_MASS = 300
_ROUNDS = 60


async def _unknown(client: Client) -> httpx.Response:
    return await client.request("GET", f"turns/{uuid4()}", retry=False)


async def _is_served(client: Client) -> float:
    """What an ordinary user does, the retried request that must be looked up included; how long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    done = await client.chat("{{tokens=3}} hi")
    assert (await client.get(f"conversations/{done['conversation_id']}"))["id"] == done["conversation_id"]
    assert (await client.get("conversations"))["items"]
    return loop.time() - began


async def test_a_mass_of_unknown_ids_is_answered_and_holds_nobody_up(new_client: NewClient) -> None:
    other, attacker = new_client(), new_client()
    calm = [await _is_served(other) for _ in range(5)]
    mass = [asyncio.create_task(_unknown(attacker)) for _ in range(_MASS)]
    took = [await _is_served(other) for _ in range(5)]
    told = {answer.status_code for answer in await asyncio.gather(*mass)}
    # On a slow machine their own user has too many under way; they are no burden to another one's either way.
    assert 404 in told <= {404, 429}
    assert statistics.median(took) < 1.0 + 5 * max(calm), (calm, took)


@asynccontextmanager
async def _writer_held_up(stack: Stack, client: Client) -> AsyncIterator[None]:
    """Nothing is stored meanwhile, although there is something to store: whether an id exists takes 2 s to tell."""
    owner = stack.blueprint.shared_environment("migrations")["LOGUE_DATABASE_OWNER_URL"]
    database = await asyncpg.connect(owner)
    try:
        async with database.transaction():
            await database.execute("LOCK TABLE log_positions IN EXCLUSIVE MODE")
            for _ in range(20):  # into many partitions: some id will have to wait
                await client.chat("{{tokens=1}} not stored yet", key=None)
            yield
    finally:
        await database.close()


async def test_ids_that_take_two_seconds_leave_room_for_everybody_else(stack: Stack, new_client: NewClient) -> None:
    """Each of these keeps a connection to the store for 2 s; they may not keep them all."""
    other, attacker = new_client(), new_client()
    known = await other.chat("{{tokens=1}} hi")
    await other.ended(known["turn_id"])
    async with _writer_held_up(stack, attacker):
        mass = [asyncio.create_task(_unknown(attacker)) for _ in range(_MASS)]
        took = []
        for _ in range(10):
            began = asyncio.get_running_loop().time()
            found = await other.request("GET", f"turns/{known['turn_id']}", retry=False)
            assert found.status_code == 200, found.text
            took.append(asyncio.get_running_loop().time() - began)
            await asyncio.sleep(0.2)
        answers = await asyncio.gather(*mass)
    assert statistics.median(took) < 1.0, took
    for answer in answers:
        # Not known whether it exists; or too many at once of this user.
        assert (answer.status_code, answer.json()["code"]) in {(503, "unavailable"), (429, "rate_limited")}
        assert answer.headers["retry-after"]
    await _is_served(other)


_ASKED = {
    "turn": ("GET", "turns/{turn}", None),
    "events": ("GET", "turns/{turn}/events", None),
    "cancel": ("POST", "turns/{turn}/cancel", None),
    "conversation": ("GET", "conversations/{conversation}", None),
    "change": ("PATCH", "conversations/{conversation}", {"title": "mine"}),
    "delete": ("DELETE", "conversations/{conversation}", None),
    "messages": ("GET", "conversations/{conversation}/messages", None),
    "chat": ("POST", "chat", {"message": "hi", "conversation_id": "{conversation}"}),
}


def _told(answer: httpx.Response) -> tuple[int, dict[str, Any], dict[str, str]]:
    """All that an answer says, but for what is different in each."""
    body = answer.json()
    assert body.pop("correlation_id") == answer.headers["x-correlation-id"]
    return (
        answer.status_code,
        body,
        {name: value for name, value in answer.headers.items() if name not in {"date", "x-correlation-id"}},
    )


@pytest.mark.parametrize("asked", _ASKED)
async def test_what_is_another_users_answers_as_what_is_not_there(new_client: NewClient, asked: str) -> None:
    """In turns, so that whatever else the machine does happens to both alike."""
    ann, bob = new_client(), new_client()
    done = await ann.chat("{{tokens=1}} a secret")
    await ann.ended(done["turn_id"])
    foreign = {"turn": done["turn_id"], "conversation": done["conversation_id"]}
    method, path, body = _ASKED[asked]
    loop, order = asyncio.get_running_loop(), random.Random(1)
    times: dict[bool, list[float]] = {True: [], False: []}
    told = []
    for _ in range(_ROUNDS):
        for is_foreign in order.sample([True, False], 2):
            ids = foreign if is_foreign else {"turn": str(uuid4()), "conversation": str(uuid4())}
            content = None if body is None else {name: value.format(**ids) for name, value in body.items()}
            began = loop.time()
            answer = await bob.request(method, path.format(**ids), json=content, retry=False)
            times[is_foreign].append(loop.time() - began)
            told.append(_told(answer))
    assert told[0][0] == 404
    assert all(each == told[0] for each in told)
    _assert_alike(times[True], times[False])


def _assert_alike(foreign: list[float], absent: list[float]) -> None:
    """The medians differ by less than what chance makes of one set of so many measurements."""
    difference = statistics.median(foreign) - statistics.median(absent)
    # Three standard errors of a median's difference, from the quartiles; never finer than a third of a millisecond.
    spread = max(_between_quartiles(foreign), _between_quartiles(absent))
    bound = max(3 * 1.25 * (spread / 1.35) * (2 / len(foreign)) ** 0.5, 0.00033)
    assert abs(difference) < 1.5 * bound, f"{difference * 1000:.3f} ms, bound {bound * 1000:.3f} ms"


def _between_quartiles(times: list[float]) -> float:
    low, _, high = statistics.quantiles(times, n=4)
    return high - low
