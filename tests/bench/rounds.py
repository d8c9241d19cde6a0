"""The comparison: rounds in which every system is started, warmed up, loaded in three ways, and stopped.

One system runs at a time, so none pays for another's rest; rounds take turns, so that whatever the machine does in the
meantime meets all of them. What is reported is the median of the rounds, with the lowest and the highest.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import uvloop
from tests.bench import systems
from tests.bench.compare import Block, saturated, steady, unloaded
from tests.bench.measure import LOAD_GENERATOR, OTHERS, quantile
from tests.bench.model_server import Script
from tests.bench.paced import directive
from tests.bench.systems import System
from tests.bench.users import Population

MODEL, MONOLITH = "model", "monolith"
#: Half of what the reference can do, at most.
_RATE = 60.0
_CLIENTS = 32
#: A model that writes 20 tokens a second, for as many users at a time as ask in the second that a reply takes.
_PACED, _PACED_RATE = Script(ttft=0.2, gap=0.05, tokens=20), 25.0
_USERS = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    rounds: int
    unloaded_turns: int
    seconds: float
    #: Of saturating load before anything counts: compilers of the JVM, pools, caches.
    warm_up_seconds: float


FULL = Plan(rounds=3, unloaded_turns=600, seconds=8.0, warm_up_seconds=8.0)
QUICK = Plan(rounds=1, unloaded_turns=100, seconds=5.0, warm_up_seconds=5.0)

Blocks = dict[str, Block]


@contextmanager
def running(name: str) -> Iterator[System]:
    """A system by name, with a model server of its own, in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="logue-bench-") as folder, systems.model(Path(folder)) as model:
        if name == MODEL:
            yield model
            return
        made: AbstractContextManager[System] = (
            systems.monolith(Path(folder) / name, model)
            if name == MONOLITH
            else systems.logue(Path(folder) / name, name.removeprefix("logue-"), model)
        )
        with made as system:
            yield system


def measure(names: list[str], plan: Plan, report: Callable[[str], None]) -> dict[str, list[Blocks]]:
    """Blocks by system, one for each round."""
    found: dict[str, list[Blocks]] = {name: [] for name in names}
    for number in range(plan.rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            with running(name) as system:
                blocks = uvloop.run(_round(system, plan))
            found[name].append(blocks)
            said = ", ".join(_in_short(phase, block, system) for phase, block in blocks.items())
            report(f"round {number + 1} of {plan.rounds}, {name}: {said}")
    return found


async def _round(system: System, plan: Plan) -> Blocks:
    population = Population(system, _USERS)
    await unloaded(system, population, 10)
    await saturated(system, population, _CLIENTS, plan.warm_up_seconds if not system.is_model else 1.0)
    await asyncio.sleep(1.0)
    blocks = {"unloaded": await unloaded(system, population, plan.unloaded_turns)}
    blocks["steady"] = await steady(system, population, _RATE, plan.seconds)
    blocks["saturated"] = await saturated(system, population, _CLIENTS, plan.seconds)
    population.close()
    population = Population(system, 100, directive(_PACED), tokens=_PACED.tokens)
    blocks["paced"] = await steady(system, population, _PACED_RATE, plan.seconds)
    population.close()
    return blocks


def _in_short(phase: str, block: Block, system: System) -> str:
    first, cpu = quantile(block.first_ms, 0.5), block.cpu_ms_per_turn(system.own)
    return f"{phase} {block.per_second:.0f}/s, first text {first:.1f} ms, {cpu:.2f} ms CPU"


def figures(rounds: Mapping[str, list[Blocks]]) -> dict[str, Any]:
    """Medians over the rounds, in a form for JSON."""
    return {
        name: {phase: _phase([blocks[phase] for blocks in all_blocks]) for phase in all_blocks[0]}
        for name, all_blocks in rounds.items()
    }


def _phase(blocks: list[Block]) -> dict[str, Any]:
    names = list(blocks[0].cpu_seconds)
    own = [name for name in names if name.startswith(systems.OWN)]
    return {
        "turns": sum(block.answered for block in blocks),
        "errors": sum(len(block.errors) for block in blocks),
        "error_examples": [error for block in blocks for error in block.errors][:3],
        "per_second": spread([block.per_second for block in blocks]),
        "first_ms": {f"p{p}": spread([quantile(b.first_ms, p / 100) for b in blocks]) for p in (50, 95, 99)},
        "own_cpu_ms": spread([block.cpu_ms_per_turn(own) for block in blocks]),
        "all_cpu_ms": spread([block.cpu_ms_per_turn(_without_load(block)) for block in blocks]),
        "cpu_ms": {name: round(median(block.cpu_ms_per_turn([name]) for block in blocks), 3) for name in names},
    }


def _without_load(block: Block) -> list[str]:
    """The service with its broker and its database; not the model, the generator and what else is on the machine."""
    return [name for name in block.cpu_seconds if name not in (MODEL, LOAD_GENERATOR, OTHERS)]


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest, highest."""
    return {"median": round(median(values), 3), "low": round(min(values), 3), "high": round(max(values), 3)}
