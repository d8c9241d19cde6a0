"""`python -m tests.chaos.soak --seconds 1800`: steady load, and whether anything grows that should not.

What is looked at, of each service: resident memory, open files (connections among them), tasks of the event loop; and
PostgreSQL's connections. The slope is that of a straight line through the last half, when every bounded memory is full;
memory is given as growth per hour, in per cent of what it is. Files and tasks come and go with the requests of the
moment, so of them the lowest of every ten samples counts: what leaks is never gone.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

import aiohttp
from tests.bench.arrivals import arrivals
from tests.bench.wire import WireClient

from logue_devstack.stack import Stack

#: The agent's cache is full soon, and still holds the conversations that go on (5.3 MB): steady load, not one that asks
#: the store for the context of every turn.
ENVIRONMENT = {"agent": {"LOGUE_AGENT_CACHE_CHARACTERS": "6000000"}}
_USERS = 200
#: Then a user starts another conversation.
_TURNS_OF_A_CONVERSATION = 20
_GROUP = 10
_QUESTION = "a question of some words {{tokens=20}}"
_SERVICES = ("gateway-0", "agent-0", "conversation")
#: Bounds of the slopes, per hour: of memory in per cent, of the others as they are. The agent's pool of connections to
#: the model grows with the most that ever ran at once, by some in an hour; one file in 20,000 turns would be eleven.
BOUNDS = {"memory_mib": 8.0, "files": 10.0, "tasks": 5.0}


class Soak:
    """Steady load on a stack, and samples of what it holds."""

    def __init__(self, stack: Stack, http: aiohttp.ClientSession) -> None:
        self._stack = stack
        self._http = http
        self._conversations: list[str | None] = [None] * _USERS
        self._turns = [0] * _USERS
        self._tokens = [stack.token(_name(number), seconds=100_000) for number in range(_USERS)]
        self.errors: list[str] = []
        self.turns = 0
        self.samples: dict[str, dict[str, list[float]]] = {
            name: {what: [] for what in ("at", *BOUNDS)} for name in _SERVICES
        }
        self.database_connections: list[int] = []

    async def run(self, rate: float, seconds: float, sample_seconds: float) -> None:
        """`rate` turns a second for so long; a sample every `sample_seconds`."""
        began, users = time.perf_counter(), itertools.cycle(range(_USERS))
        sampled = 0.0
        async with asyncio.TaskGroup() as group:
            async for due in arrivals(rate, seconds):
                group.create_task(self._turn(next(users)))
                if due - began >= sampled:
                    sampled += sample_seconds
                    await self._sample(due - began)

    async def _turn(self, user: int) -> None:
        if self._turns[user] % _TURNS_OF_A_CONVERSATION == 0:
            self._conversations[user] = None
        self._turns[user] += 1
        # A connection of its own: a pool of clients keeps as many as it ever needed at once, which looks like a leak.
        client = WireClient("127.0.0.1", self._stack.ports.gateways[0])
        answer = await client.ask(
            client.question(_name(user), self._tokens[user], _QUESTION, self._conversations[user], tokens=20)
        )
        client.close()
        self._conversations[user] = answer.conversation_id or self._conversations[user]
        self.turns += 1
        if not answer.is_answered:
            self.errors.append(answer.failure)

    async def _sample(self, at: float) -> None:
        for name in _SERVICES:
            server = self._stack.server(name)
            assert server.child is not None
            process = Path(f"/proc/{server.child.id.pid}")
            samples = self.samples[name]
            samples["at"].append(at)
            samples["memory_mib"].append(int((process / "statm").read_text().split()[1]) * 4096 / 2**20)
            samples["files"].append(len(list((process / "fd").iterdir())))
            samples["tasks"].append(await self._tasks(server.port))
        query = "SELECT count(*) FROM pg_stat_activity WHERE client_addr IS NOT NULL"
        postgres: Any = self._stack.server("postgres")
        self.database_connections.append(int(await asyncio.to_thread(postgres.sql, query)))

    async def _tasks(self, port: int) -> float:
        async with self._http.get(f"http://127.0.0.1:{port}/metrics") as response:
            lines = (await response.text()).splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("logue_asyncio_tasks "))

    def slopes(self) -> dict[str, dict[str, float]]:
        """Per hour, over the last half of the samples; of memory in per cent."""
        found: dict[str, dict[str, float]] = {}
        for name, samples in self.samples.items():
            half = len(samples["at"]) // 2
            hours = [at / 3600 for at in samples["at"][half:]]
            found[name] = {what: _slope(hours[::_GROUP], _lowest(samples[what][half:])) for what in BOUNDS}
            memory = samples["memory_mib"][half:]
            found[name]["memory_mib"] = _slope(hours, memory) * 100 / median(memory)
        return found

    def report(self) -> dict[str, Any]:
        """In a form for JSON."""
        return {
            "turns": self.turns,
            "errors": len(self.errors),
            "kinds_of_errors": Counter(error[:80] for error in self.errors).most_common(5),
            "slopes_per_hour": {
                name: {w: round(s, 2) for w, s in each.items()} for name, each in self.slopes().items()
            },
            "levels": {
                name: {what: _levels(values) for what, values in samples.items() if what != "at"}
                for name, samples in self.samples.items()
            },
            "database_connections": _levels(self.database_connections),
        }


async def soak(stack: Stack, rate: float, seconds: float, sample_seconds: float) -> Soak:
    """A soak of a running stack."""
    async with aiohttp.ClientSession() as http:
        run = Soak(stack, http)
        await run.run(rate, seconds, sample_seconds)
        return run


def _name(user: int) -> str:
    return f"soak-{user}"


def _lowest(values: Sequence[float]) -> list[float]:
    """Of each group of samples."""
    return [min(values[at : at + _GROUP]) for at in range(0, len(values), _GROUP)]


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    return linear_regression(x, y).slope


def _levels(values: Sequence[float]) -> list[float]:
    """At the beginning, after each quarter, and in the end."""
    last = len(values) - 1
    return [round(values[last * quarter // 4], 1) for quarter in range(5)]


def main() -> int:
    """1 when something grows."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--rate", type=float, default=60)
    parser.add_argument("--broker", default="apache")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="logue-soak-") as folder,
        Stack(Path(folder), broker=options.broker, restart_crashed=False, service_environment=ENVIRONMENT) as stack,
    ):
        run = asyncio.run(soak(stack, options.rate, options.seconds, max(1.0, options.seconds / 120)))
    print(json.dumps(run.report(), indent=1))
    grows = [
        f"{what} of {name}: {slope:.1f} an hour"
        for name, each in run.slopes().items()
        for what, slope in each.items()
        if slope > BOUNDS[what]
    ]
    print("\n".join(grows) or "nothing grows")
    return int(bool(grows or run.errors))


if __name__ == "__main__":
    sys.exit(main())
