"""What is done to the system: each fault begins, lasts and is undone, and is noted in the history.

A fault takes the parts that it needs, so that faults side by side do not undo each other's work.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.chaos.clocks import missing_for_clocks
from tests.chaos.cluster import Cluster
from tests.chaos.crowd import Crowd
from tests.chaos.disk import missing_for_disk
from tests.chaos.history import History
from tests.chaos.saboteur import Saboteur

from logue_devstack.errors import DevstackError

#: A fault lasts longer than the time after which each part notices a dead one, or shorter.
_SECONDS = (1.0, 4.0, 9.0)
_BROKERS = "brokers"
#: While other things go wrong, too.
_READY_SECONDS = 120.0


@dataclass
class Scene:
    """Where faults happen. `pace` stretches or shortens what they last."""

    cluster: Cluster
    history: History
    saboteur: Saboteur
    crowd: Crowd
    choice: random.Random
    pace: float = 1.0
    say: Callable[[str], None] = print
    _taken: set[str] = field(default_factory=set)
    _freed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def seconds(self, *choices: float) -> float:
        """How long this time."""
        return self.choice.choice(choices or _SECONDS) * self.pace

    def one(self, *kinds: str) -> str:
        """A process of one of these kinds, preferably one that nobody else is at."""
        names = [name for kind in kinds for name in self.cluster.names(kind)]
        return self.choice.choice([name for name in names if name not in self._taken] or names)

    async def start(self, name: str) -> None:
        """Start a process that is down; returns when it is ready."""
        await do(self.cluster.start, name)
        await asyncio.to_thread(self.cluster.wait_ready, name, timeout=_READY_SECONDS)

    @asynccontextmanager
    async def fault(self, kind: str, *targets: str) -> AsyncIterator[None]:
        """These parts are this fault's alone; notes it."""
        async with self._freed:
            await self._freed.wait_for(lambda: not self._taken & set(targets))
            self._taken |= set(targets)
        try:
            with self.history.fault(kind, ", ".join(targets)) as noted:
                yield
            self.say(f"chaos: {noted.began:6.1f} s {kind}: {noted.target}, {(noted.ended or 0) - noted.began:.1f} s")
        finally:
            async with self._freed:
                self._taken -= set(targets)
                self._freed.notify_all()


async def do(work: Callable[..., object], *arguments: object) -> None:
    """Clusters block."""
    await asyncio.to_thread(work, *arguments)


# --- processes -------------------------------------------------------------------------------------------------------


async def kill_service(scene: Scene) -> None:
    name = scene.one("gateway", "agent", "conversation")
    async with scene.fault("SIGKILL of a service", name):
        await do(scene.cluster.kill, name)
        await asyncio.sleep(scene.seconds())
        await scene.start(name)


async def freeze_service(scene: Scene) -> None:
    name = scene.one("gateway", "agent", "conversation")
    async with scene.fault("SIGSTOP of a service", name):
        await do(scene.cluster.pause, name)
        await asyncio.sleep(scene.seconds())
        await do(scene.cluster.resume, name)


async def storm_of_rebalances(scene: Scene) -> None:
    name = scene.one("agent")
    async with scene.fault("rebalance storm", name):
        for _ in range(round(5 * scene.pace) or 1):
            await do(scene.cluster.stop, name)
            await asyncio.sleep(1)
            await scene.start(name)
            await asyncio.sleep(1)


async def jump_of_a_clock(scene: Scene) -> None:
    name = scene.one("gateway", "agent", "conversation")
    # A turn expires after an hour; tokens are later than a gateway's leeway of 10 s.
    jump = scene.choice.choice((-8, 3000) if name.startswith("gateway") else (-3000, -60, 60, 3000))
    async with scene.fault("clock jump", name):
        await do(scene.cluster.clock_jump, name, jump)
        await asyncio.sleep(scene.seconds(4, 9))
        await do(scene.cluster.clock_jump, name, 0)


# --- brokers ---------------------------------------------------------------------------------------------------------


async def kill_one_broker(scene: Scene) -> None:
    await _kill_brokers(scene, "SIGKILL of one broker", 1)


async def kill_two_brokers(scene: Scene) -> None:
    await _kill_brokers(scene, "SIGKILL of two brokers", 2)


async def _kill_brokers(scene: Scene, kind: str, count: int) -> None:
    names = scene.choice.sample(scene.cluster.names("broker"), count)
    async with scene.fault(kind, _BROKERS, *names):
        for name in names:
            await do(scene.cluster.kill, name)
        await asyncio.sleep(scene.seconds(2, 6))
        await asyncio.gather(*(scene.start(name) for name in names))


async def restart_all_brokers(scene: Scene) -> None:
    async with scene.fault("rolling restart of the brokers", _BROKERS):
        for name in scene.cluster.names("broker"):
            await do(scene.cluster.stop, name)
            await scene.start(name)


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


async def kill_postgres(scene: Scene) -> None:
    async with scene.fault("SIGKILL of PostgreSQL", "postgres"):
        await do(scene.cluster.kill, "postgres")
        await asyncio.sleep(scene.seconds())
        await scene.start("postgres")


async def freeze_postgres(scene: Scene) -> None:
    async with scene.fault("PostgreSQL stands still", "postgres"):
        await do(scene.cluster.pause, "postgres")
        await asyncio.sleep(scene.seconds())
        await do(scene.cluster.resume, "postgres")


async def slow_postgres(scene: Scene) -> None:
    async with scene.fault("PostgreSQL slow", "network"):
        await do(scene.cluster.proxy.delay, "*>postgres", 0.05, 0.04)
        await asyncio.sleep(scene.seconds(4, 9))
        await do(scene.cluster.proxy.heal)


async def fill_the_disk(scene: Scene) -> None:
    async with scene.fault("disk of PostgreSQL full", "postgres"):
        try:
            await do(scene.cluster.fill_disk)
        except DevstackError as error:  # nothing may be mounted here
            scene.say(f"chaos: without fill_the_disk: {error}")
            return
        await asyncio.sleep(scene.seconds())
        await do(scene.cluster.free_disk)
        if not scene.cluster.is_running("postgres"):  # it gives up when it cannot write its log
            await scene.start("postgres")


# --- network ---------------------------------------------------------------------------------------------------------

LINKS = (
    "gateway-0>broker-*",
    "gateway-*>broker-*",
    "agent-1>broker-*",
    "agent-*>broker-*",
    "conversation-*>broker-*",
    "*>broker-1*",
    "broker-2>*",
    "*>conversation",
    "conversation-*>postgres",
    "agent-*>demo-model",
    "client>gateway-0",
    "client>gateway-1",
)


async def slow_network(scene: Scene) -> None:
    links = scene.choice.choice(LINKS)
    async with scene.fault("network delay", "network", links):
        await do(scene.cluster.proxy.delay, links, 0.1, 0.08)
        await asyncio.sleep(scene.seconds(4, 9))
        await do(scene.cluster.proxy.heal)


async def reset_connections(scene: Scene) -> None:
    links = scene.choice.choice(LINKS)
    async with scene.fault("connections reset", links):
        for _ in range(3):
            await do(scene.cluster.proxy.reset, links)
            await asyncio.sleep(scene.seconds(0.5))


async def blackhole(scene: Scene) -> None:
    links = scene.choice.choice(LINKS)
    async with scene.fault("network blackhole", "network", links):
        await do(scene.cluster.proxy.blackhole, links)
        await asyncio.sleep(scene.seconds())
        await do(scene.cluster.proxy.heal)


# --- records ---------------------------------------------------------------------------------------------------------


async def duplicate_records(scene: Scene) -> None:
    async with scene.fault("records duplicated and reordered", "log"):
        await scene.saboteur.repeat(40, scene.choice)


async def corrupt_records(scene: Scene) -> None:
    async with scene.fault("corrupt and oversized records", "log"):
        await scene.saboteur.poison(scene.choice)


async def full_dead_letters(scene: Scene) -> None:
    async with scene.fault("full DLQ", "log"):
        await scene.saboteur.fill_dead_letters()
        await scene.saboteur.poison(scene.choice)
        await asyncio.sleep(scene.seconds(4))
        await scene.saboteur.free_dead_letters()


# --- model and clients -----------------------------------------------------------------------------------------------


async def hanging_model(scene: Scene) -> None:
    async with scene.fault("model hangs", "demo-model"):
        await do(scene.cluster.pause, "demo-model")
        await asyncio.sleep(scene.seconds())
        await do(scene.cluster.resume, "demo-model")


async def slow_readers(scene: Scene) -> None:
    async with scene.fault("clients that read a byte a second", "clients"):
        await scene.crowd.slow_readers(20, scene.seconds(5))


async def crowd_that_reconnects(scene: Scene) -> None:
    async with scene.fault("crowd that reconnects", "clients"):
        await scene.crowd.reconnect(round(1000 * scene.pace))


Inflict = Callable[[Scene], Awaitable[None]]

ALL: dict[str, Inflict] = {
    inflict.__name__: inflict
    for inflict in (
        kill_service,
        freeze_service,
        storm_of_rebalances,
        jump_of_a_clock,
        kill_one_broker,
        kill_two_brokers,
        restart_all_brokers,
        kill_postgres,
        freeze_postgres,
        slow_postgres,
        fill_the_disk,
        slow_network,
        reset_connections,
        blackhole,
        duplicate_records,
        corrupt_records,
        full_dead_letters,
        hanging_model,
        slow_readers,
        crowd_that_reconnects,
    )
}


def possible(names: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Those faults for which this machine has all that it takes."""
    lacks = {"jump_of_a_clock": missing_for_clocks(), "fill_the_disk": missing_for_disk()}
    for name in names:
        if problem := lacks.get(name):
            say(f"chaos: without {name}: {problem}")
    return [name for name in names if not lacks.get(name)]


def programme(names: Sequence[str], choice: random.Random) -> Iterator[list[str]]:
    """For ever: each fault alone once, in random order, then two or three at a time."""
    alone = list(names)
    choice.shuffle(alone)
    yield from ([name] for name in alone)
    while True:
        yield choice.sample(names, min(len(names), choice.choice((1, 2, 2, 3))))


async def inflict_all(scene: Scene, names: Sequence[str], until: float, rest_seconds: tuple[float, float]) -> None:
    """Work through the programme until that moment of the history, with some rest between its steps."""
    for together in programme(names, scene.choice):
        if scene.history.now() >= until:
            return
        await asyncio.gather(*(ALL[name](scene) for name in together))
        await asyncio.sleep(scene.choice.uniform(*rest_seconds) * scene.pace)
