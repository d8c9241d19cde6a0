"""What else is measured, beside the comparison: each part starts what it needs, and returns its figures by name."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop
from tests.bench import crowd, growth, hop, open_streams, persistence, systems
from tests.bench.compare import saturated
from tests.bench.systems import System
from tests.bench.users import Population

from logue_devstack.ports import Ports
from logue_devstack.stack import Stack

_OPEN_STREAMS = 10_000
_WARM_UP_SECONDS = 6.0
#: Room for what is waited for here at once.
_MANY: Mapping[str, Mapping[str, str]] = {
    "agent": {"LOGUE_AGENT_CONCURRENCY": "4000"},
    "gateway": {"LOGUE_GATEWAY_MAX_STREAMS": str(_OPEN_STREAMS + 100)},
}


@contextmanager
def _logue(broker: str = "apache", **options: Any) -> Iterator[System]:
    with (
        tempfile.TemporaryDirectory(prefix="logue-bench-") as folder,
        systems.model(Path(folder)) as model,
        systems.logue(Path(folder) / "logue", broker, model, service_environment=_MANY, **options) as system,
    ):
        if options.get("agents") != 0:
            uvloop.run(_warm_up(system))
        yield system


async def _warm_up(system: System) -> None:
    """Compilers of the JVM, pools, caches: none of them is what is measured."""
    population = Population(system, 100)
    await saturated(system, population, 32, _WARM_UP_SECONDS)
    population.close()
    await asyncio.sleep(1.0)


def _users() -> dict[str, Any]:
    with _logue() as system:
        return {"users": uvloop.run(crowd.users_who_think(system, 75.0))}


def _streams() -> dict[str, Any]:
    with _logue() as system:
        return {"streams": uvloop.run(crowd.streams(system, 1000, crowd.SLOW))}


def _most() -> dict[str, Any]:
    with _logue() as system:
        return {"most": uvloop.run(crowd.most_streams(system))}


def _open() -> dict[str, Any]:
    with _logue(agents=0) as system:
        return {"open": uvloop.run(open_streams.measure(system, system.bootstrap, _OPEN_STREAMS, 45.0))}


@contextmanager
def _without_agents(broker: str, conversations: int = 1) -> Iterator[Stack]:
    ports = Ports.random(gateways=1, agents=0, conversations=conversations)
    with (
        tempfile.TemporaryDirectory(prefix="logue-bench-") as folder,
        Stack(Path(folder), broker=broker, ports=ports, restart_crashed=False) as stack,
    ):
        yield stack


def _drain() -> dict[str, Any]:
    found = []
    for processes in (1, 2):
        with _without_agents("apache", processes) as stack:
            found.append(uvloop.run(persistence.drain(stack, 40_000)))
    return {"drain": found}


def _hop() -> dict[str, Any]:
    found = {}
    for broker in ("noida", "apache"):
        with _without_agents(broker) as stack:
            stack.stop_one("gateway-0")
            stack.stop_one("conversation")
            found[broker] = uvloop.run(hop.one_way(stack.kafka_bootstrap, 1000))
    return {"hop": found}


def _history() -> dict[str, Any]:
    with _logue() as system:
        return {"history": uvloop.run(persistence.history_under_load(system, 100.0, 15.0))}


def _concurrency() -> dict[str, Any]:
    found = []
    for concurrent in (10, 100, 1000):
        with _logue() as system:
            found.append(uvloop.run(growth.by_concurrency(system, concurrent, 10.0)))
    return {"concurrency": found}


def _length() -> dict[str, Any]:
    found = []
    with _logue() as system:
        for tokens, rate, seconds in ((20, 20.0, 10.0), (200, 4.0, 12.0), (1000, 1.0, 20.0), (5000, 0.5, 20.0)):
            found.append(uvloop.run(growth.by_length(system, tokens, rate, seconds)))
    return {"length": found}


def _turns() -> dict[str, Any]:
    with _logue() as system:
        return {"turns": uvloop.run(growth.by_turns(system, 8, 1000, 50))}


def _processes(kind: str) -> Callable[[], dict[str, Any]]:
    def measure() -> dict[str, Any]:
        found = []
        for count in (1, 2, 4):
            with _logue(**{kind: count}) as system:
                found.append(uvloop.run(growth.by_processes(system, kind.removesuffix("s"), 10.0)))
        return {kind: found}

    return measure


ALL: Mapping[str, Callable[[], dict[str, Any]]] = {
    "users": _users,
    "streams": _streams,
    "most": _most,
    "open": _open,
    "drain": _drain,
    "history": _history,
    "hop": _hop,
    "concurrency": _concurrency,
    "length": _length,
    "turns": _turns,
    "agents": _processes("agents"),
    "gateways": _processes("gateways"),
}
