"""What a turn costs when there are more users, longer replies, longer conversations, more processes."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.bench.compare import Block, steady
from tests.bench.model_server import Script
from tests.bench.paced import directive
from tests.bench.systems import System
from tests.bench.users import Population, User
from tests.bench.wire import WireClient

#: Turns a second while streams last longer and longer: so many more run at once.
_RATE = 40.0
_TOKENS_PER_TURN = 10
#: Four of a kind together do about a quarter of what the machine can. At half of it the broker answers late enough to
#: gather more: a turn costs less for that, which hides what a further process costs.
_RATE_OF_A_PROCESS = 30.0


async def by_concurrency(system: System, concurrent: int, seconds: float) -> dict[str, Any]:
    """CPU of a turn while `concurrent` others run: as many turns a second and tokens a turn, more slowly."""
    lasts = concurrent / _RATE
    script = Script(ttft=lasts / _TOKENS_PER_TURN, gap=lasts / _TOKENS_PER_TURN, tokens=_TOKENS_PER_TURN)
    population = Population(system, concurrent + 100, directive(script), tokens=script.tokens)
    running = asyncio.create_task(steady(system, population, _RATE, lasts + seconds + 2.0))
    await asyncio.sleep(lasts + 1.0)
    clock = system.clock()
    before, began = clock.read(), asyncio.get_running_loop().time()
    await asyncio.sleep(seconds)
    cpu, took = clock.since(before), asyncio.get_running_loop().time() - began
    block = await running
    population.close()
    own = sum(cpu[name] for name in system.own)
    return {
        "concurrent": concurrent,
        "turns_per_second": _RATE,
        "own_cpu_ms_per_turn": round(own * 1000 / (_RATE * took), 3),
        "errors": len(block.errors),
    }


async def by_length(system: System, tokens: int, rate: float, seconds: float) -> dict[str, Any]:
    """CPU of a turn of `tokens` tokens, 100 a second."""
    script = Script(ttft=0.01, gap=0.01, tokens=tokens)
    population = Population(system, 50, directive(script), tokens=tokens)
    block = await steady(system, population, rate, seconds)
    population.close()
    own = block.cpu_ms_per_turn(system.own)
    return {
        "tokens": tokens,
        "own_cpu_ms": round(own, 3),
        "us_per_token": round(own * 1000 / tokens, 1),
        **_said(block),
    }


async def by_turns(system: System, conversations: int, turns: int, window: int) -> list[dict[str, Any]]:
    """CPU of turns early and late in a conversation, `conversations` side by side."""
    client = WireClient("127.0.0.1", system.ports[0])
    users = [_LongUser(system, client, f"long-{number}") for number in range(conversations)]
    found: list[dict[str, Any]] = []
    done = 0
    for last in (5, 5 + window, turns - window, turns):
        block, clock = Block(), system.clock()
        before = clock.read()
        await asyncio.gather(*(_ask(user, last - done, block) for user in users))
        block.cpu_seconds = clock.since(before)
        if last in (5 + window, turns):
            found.append(
                {
                    "turns": f"{done + 1} to {last}",
                    "own_cpu_ms": round(block.cpu_ms_per_turn(system.own), 3),
                    "cpu_ms": {name: round(block.cpu_ms_per_turn([name]), 3) for name in system.own},
                    **_said(block),
                }
            )
        done = last
    client.close()
    return found


async def by_processes(system: System, kind: str, seconds: float) -> dict[str, Any]:
    """CPU of the processes of one kind for a turn, each with the same load: one that does more gathers more.

    At saturation the same two cores would be shared by one or by four, each with a quarter of the load.
    """
    names = [name for name in system.pids if name.startswith(kind)]
    population = Population(system, 200)
    block = await steady(system, population, _RATE_OF_A_PROCESS * len(names), seconds)
    population.close()
    used = block.cpu_ms_per_turn(names)
    return {
        "kind": kind,
        "processes": len(names),
        "cpu_ms_per_turn": round(used, 3),
        "turns_per_cpu_second": round(1000 / used),
        "turns_per_second": round(block.per_second),
        **_said(block),
    }


class _LongUser(User):
    """Never begins another conversation."""

    def __init__(self, system: System, client: WireClient, name: str) -> None:
        super().__init__(system, client, name, "{{tokens=20}} And then?", 20)

    @property
    def is_new(self) -> bool:
        return self.conversation_id is None


async def _ask(user: User, turns: int, block: Block) -> None:
    for _ in range(turns):
        block.take(await user.ask())


def _said(block: Block) -> dict[str, Any]:
    return {"errors": len(block.errors), "error_examples": block.errors[:2]}
