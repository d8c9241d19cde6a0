"""`python -m tests.chaos.overload --seconds 300`: three times more than Logue can do, and what becomes of it.

Arrivals do not wait for answers, and times count from when a request was due, so nothing that is slow hides what it
delays. The generator shares the machine's cores with all that it measures, which makes the figures worse, not better.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.arrivals import arrivals
from tests.bench.measure import CpuClock, summary
from tests.bench.wire import Exchange, WireClient

from logue_devstack.stack import Stack

_QUESTION = "{{tokens=20}}"
#: Turns at once when the saturating load is looked for.
_SATURATING = 32
#: The load afterwards, as a share of the saturating one, and the time that recovery may take.
_AFTERWARDS, RECOVERY_SECONDS = 0.3, 10.0


@dataclass(slots=True)
class Arrival:
    """One request: when it was due (seconds of its phase), and the seconds to its first text, or what refused it."""

    due: float
    first: float = 0.0
    refused: bool = False
    error: str = ""


@dataclass(slots=True)
class Outcome:
    """What became of a phase."""

    arrivals: list[Arrival] = field(default_factory=list)
    #: Resident memory of gateway and agent, MiB, once a second.
    memory: list[dict[str, float]] = field(default_factory=list)

    def accepted(self, after: float = 0.0) -> list[float]:
        return [a.first for a in self.arrivals if a.due >= after and not a.refused and not a.error]

    def refused(self, after: float = 0.0) -> int:
        return sum(a.refused for a in self.arrivals if a.due >= after)

    @property
    def errors(self) -> list[str]:
        return [a.error for a in self.arrivals if a.error]


class Generator:
    """Users who ask the gateways of a stack in turn."""

    def __init__(self, stack: Stack, users: int = 500) -> None:
        self._clients = [WireClient("127.0.0.1", port) for port in stack.ports.gateways]
        names = [f"load-{number}" for number in range(users)]
        self._questions = [self._clients[0].question(name, stack.token(name), _QUESTION) for name in names]

    async def ask(self, number: int) -> Exchange:
        """Request `number`: of that user, at that gateway."""
        client = self._clients[number % len(self._clients)]
        return await client.ask(self._questions[number % len(self._questions)])

    def close(self) -> None:
        for client in self._clients:
            client.close()


async def capacity(generator: Generator, seconds: float = 8.0) -> float:
    """Turns a second when there is always something to do."""
    answered, numbers = 0, itertools.count()
    began = time.monotonic()

    async def user() -> None:
        nonlocal answered
        while time.monotonic() < began + seconds:
            exchange = await generator.ask(next(numbers))
            answered += exchange.is_answered
            if not exchange.is_answered:
                await asyncio.sleep(0.05)

    await asyncio.gather(*(user() for _ in range(_SATURATING)))
    return answered / (time.monotonic() - began)


async def offer(stack: Stack, generator: Generator, rate: float, seconds: float) -> Outcome:
    """`rate` requests a second, evenly, for so long; returns when all are answered."""
    outcome, began = Outcome(), time.perf_counter()
    measured = 0.0

    async def ask(arrival: Arrival, number: int) -> None:
        exchange = await generator.ask(number)
        arrival.first = exchange.first_at - began - arrival.due
        arrival.refused = exchange.status in (429, 503)
        if not arrival.refused and not exchange.is_answered:
            arrival.error = exchange.failure

    async with asyncio.TaskGroup() as group:
        async for due in arrivals(rate, seconds):
            arrival = Arrival(due - began)
            outcome.arrivals.append(arrival)
            group.create_task(ask(arrival, len(outcome.arrivals)))
            if arrival.due >= measured:
                measured += 1.0
                outcome.memory.append({name: _resident_mib(stack, name) for name in ("gateway-0", "agent-0")})
    return outcome


async def measure(stack: Stack, seconds: float, times: float = 3.0) -> dict[str, Any]:
    """Saturating load, `times` as much, and less again; in a form for JSON."""
    generator = Generator(stack)
    clock = CpuClock({name: child.id.pid for name in stack.names if (child := stack.server(name).child)})
    try:
        await offer(stack, generator, 10, 3)
        saturating = await capacity(generator)
        await asyncio.sleep(6)
        before = clock.read()
        over = await offer(stack, generator, saturating * times, seconds)
        cpu = clock.since(before)
        after = await offer(stack, generator, saturating * _AFTERWARDS, RECOVERY_SECONDS * 2)
    finally:
        generator.close()
    memory = {
        name: {"first": over.memory[0][name], "highest": max(each[name] for each in over.memory)}
        for name in over.memory[0]
    }
    accepted = over.accepted()
    return {
        "saturating_turns_per_second": round(saturating, 1),
        "offered_per_second": round(saturating * times, 1),
        "seconds": seconds,
        "accepted": len(accepted),
        "accepted_per_second": round(len(accepted) / seconds, 1),
        "refused": over.refused(),
        "errors": len(over.errors),
        "kinds_of_errors": Counter(over.errors).most_common(5),
        "first_text_ms": summary([first * 1000 for first in accepted]),
        "first_text_ms_after_10_s": summary([first * 1000 for first in over.accepted(10.0)]),
        "cores_used": {name: round(used / seconds, 2) for name, used in cpu.items()},
        "memory_mib": memory,
        "afterwards": {
            "refused_after_10_s": after.refused(RECOVERY_SECONDS),
            "errors": len(after.errors),
            "kinds_of_errors": Counter(after.errors).most_common(5),
            "first_text_ms_after_10_s": summary([first * 1000 for first in after.accepted(RECOVERY_SECONDS)]),
        },
    }


def _resident_mib(stack: Stack, name: str) -> float:
    child = stack.server(name).child
    assert child is not None
    pages = int(Path(f"/proc/{child.id.pid}/statm").read_text().split()[1])
    return round(pages * 4096 / 2**20, 1)


def main() -> int:
    """Prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--times", type=float, default=3)
    parser.add_argument("--broker", default="noida")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="logue-overload-") as folder,
        Stack(Path(folder), broker=options.broker, restart_crashed=False) as stack,
    ):
        print(json.dumps(asyncio.run(measure(stack, options.seconds, options.times)), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
