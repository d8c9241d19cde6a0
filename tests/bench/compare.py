"""The phases of the comparison. Each loads one system; rounds of all systems take turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.bench.arrivals import arrivals
from tests.bench.systems import System
from tests.bench.users import Population
from tests.bench.wire import Exchange

#: Between two questions of a user who is alone.
_PAUSE_SECONDS = 0.02
#: After the last answer, before CPU is read: what is stored later was asked for here, too.
_SETTLE_SECONDS = 0.5


@dataclass(slots=True)
class Block:
    """What one phase of one round came to."""

    seconds: float = 0.0
    answered: int = 0
    #: Milliseconds from when a question was due to its first text.
    first_ms: list[float] = field(default_factory=list)
    #: CPU seconds by process.
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds

    def take(self, exchange: Exchange, due: float | None = None) -> None:
        if exchange.is_answered:
            self.answered += 1
            self.first_ms.append((exchange.first_at - (exchange.sent_at if due is None else due)) * 1000)
        else:
            self.errors.append("refused" if exchange.is_refused else exchange.failure)

    def cpu_ms_per_turn(self, names: Sequence[str]) -> float:
        """Of these processes together."""
        return sum(self.cpu_seconds[name] for name in names) * 1000 / max(1, self.answered)


@asynccontextmanager
async def _measured(system: System) -> AsyncIterator[Block]:
    """A block whose time and CPU are those of the body."""
    block, clock = Block(), system.clock()
    before, began = clock.read(), time.perf_counter()
    yield block
    block.seconds = time.perf_counter() - began
    await asyncio.sleep(_SETTLE_SECONDS)
    block.cpu_seconds = clock.since(before)


async def unloaded(system: System, population: Population, turns: int) -> Block:
    """One user at a time, one question after the other: a new conversation in every ten."""
    async with _measured(system) as block:
        for _ in range(turns):
            block.take(await population.users[0].ask())
            await asyncio.sleep(_PAUSE_SECONDS)
    return block


async def steady(system: System, population: Population, rate: float, seconds: float) -> Block:
    """`rate` questions a second, evenly, whatever becomes of those before (an open loop)."""

    async def ask(due: float) -> None:
        block.take(await population.ask(), due)

    async with _measured(system) as block, asyncio.TaskGroup() as group:
        async for due in arrivals(rate, seconds):
            group.create_task(ask(due))
    return block


async def saturated(system: System, population: Population, clients: int, seconds: float) -> Block:
    """`clients` users who ask again at once: as many turns as the system can do."""
    until = time.perf_counter() + seconds

    async def ask_on() -> None:
        while time.perf_counter() < until:
            exchange = await population.ask()
            block.take(exchange)
            if not exchange.is_answered:
                await asyncio.sleep(0.05)

    async with _measured(system) as block, asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(ask_on())
    return block
