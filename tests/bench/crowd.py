"""Many users at once: who ask now and then, and streams that all run at the same time."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from tests.bench.model_server import Script
from tests.bench.paced import Lateness, directive
from tests.bench.systems import System
from tests.bench.users import Population

USERS = 1000
_THINK_SECONDS = 30.0
#: 1 s to the first token, then 20 tokens a second.
PERSON = Script(ttft=1.0, gap=0.05, tokens=100)
#: 2 tokens a second.
SLOW = Script(ttft=1.0, gap=0.5, tokens=40)
#: 20 tokens a second.
FAST = Script(ttft=1.0, gap=0.05, tokens=200)
#: The objective: tokens are late by less than this (95 of 100).
LATE_MS = 200.0
_RAMP_SECONDS = 5.0
#: How exactly the most streams are found.
_FIRST, _STEP = 100, 1.25


async def users_who_think(system: System, seconds: float) -> dict[str, Any]:
    """A thousand users, each asking again 30 s after a reply."""
    lateness, population = Lateness(PERSON), Population(system, USERS, directive(PERSON), tokens=PERSON.tokens)
    loop, clock = asyncio.get_running_loop(), system.clock()
    began, before = loop.time(), clock.read()
    reply_seconds = PERSON.ttft + PERSON.gap * PERSON.tokens

    async def user(number: int) -> None:
        await asyncio.sleep((_THINK_SECONDS + reply_seconds) * number / USERS)
        while loop.time() < began + seconds:
            lateness.ended(await population.users[number].ask(lateness.watch))
            await asyncio.sleep(_THINK_SECONDS * random.uniform(0.9, 1.1))

    await _all(user(number) for number in range(USERS))
    cpu = clock.since(before)
    population.close()
    return lateness.report() | {"cores": _cores(cpu, loop.time() - began)}


async def streams(system: System, count: int, script: Script) -> dict[str, Any]:
    """`count` streams that run at the same time."""
    lateness, population = Lateness(script), Population(system, count, directive(script), tokens=script.tokens)
    loop, clock = asyncio.get_running_loop(), system.clock()
    began, before = loop.time(), clock.read()

    async def stream(number: int) -> None:
        await asyncio.sleep(_RAMP_SECONDS * number / count)
        lateness.ended(await population.users[number].ask(lateness.watch))

    await _all(stream(number) for number in range(count))
    cpu = clock.since(before)
    population.close()
    return lateness.report() | {"streams": count, "cores": _cores(cpu, loop.time() - began)}


async def most_streams(system: System) -> list[dict[str, Any]]:
    """More and more streams of 20 tokens a second, until they are late."""
    found: list[dict[str, Any]] = []
    count = float(_FIRST)
    while True:
        run = await streams(system, round(count), FAST)
        found.append(run)
        print(f"  {run['streams']} streams: {run['late_ms']['token']}, errors {run['errors']}", flush=True)
        if run["errors"] or run["late_ms"]["token"]["p95"] >= LATE_MS:
            return found
        count *= _STEP
        await asyncio.sleep(2.0)


async def _all(tasks: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(task)


def _cores(cpu_seconds: dict[str, float], seconds: float) -> dict[str, float]:
    return {name: round(used / seconds, 3) for name, used in cpu_seconds.items()}
