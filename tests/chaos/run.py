"""A run: the cluster, the workload, the faults; then the checker's verdict and the figures."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos import faults
from tests.chaos.checker import Violation, check
from tests.chaos.cluster import Cluster
from tests.chaos.crowd import Crowd
from tests.chaos.figures import figures
from tests.chaos.history import History
from tests.chaos.saboteur import Saboteur
from tests.chaos.workload import Workload

from logue_devstack.errors import DevstackError


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. `names`: which faults (faults.ALL); `pace` stretches how long they last and rest."""

    seconds: float
    seed: int
    users: int = 12
    names: Sequence[str] = tuple(faults.ALL)
    pace: float = 1.0
    rest_seconds: tuple[float, float] = (2.0, 6.0)
    give_up_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it."""

    history: History
    violations: list[Violation]
    figures: dict[str, Any]

    @property
    def text(self) -> str:
        """For people."""
        found = [f"{violation.rule}: turn {violation.turn}: {violation.text}" for violation in self.violations]
        return "\n".join([json.dumps(self.figures, indent=1, default=str), *found[:50]])


async def run(plan: Plan, folder: Path, say: Callable[[str], None] = print) -> Verdict:
    """Carry out `plan`; the history, all logs and the data are in `folder` afterwards."""
    say(f"chaos: seed {plan.seed}, {plan.seconds:.0f} s, {plan.users} users, {len(plan.names)} kinds of faults")
    choice = random.Random(plan.seed)
    names = faults.possible(plan.names, say)
    cluster = await asyncio.to_thread(_start, plan, folder / "cluster", say)
    try:
        history = History(seed=plan.seed)
        await _turmoil(plan, names, cluster, history, choice, say)
    finally:
        await asyncio.to_thread(cluster.stop_all)
        shutil.rmtree(folder / "cluster" / "apache", ignore_errors=True)
    history.write(folder / "history.jsonl")
    violations = check(history)
    return Verdict(history, violations, figures(history, violations))


def _start(plan: Plan, folder: Path, say: Callable[[str], None]) -> Cluster:
    """A cluster takes thirty ports; when somebody else has taken one meanwhile, others may be free."""
    cluster = Cluster(folder, seed=plan.seed)
    try:
        cluster.start_all()
    except DevstackError as error:
        say(f"chaos: starting once more: {str(error).splitlines()[0]}")
        shutil.rmtree(folder)
        cluster = Cluster(folder, seed=plan.seed)
        cluster.start_all()
    return cluster


async def _turmoil(
    plan: Plan,
    names: Sequence[str],
    cluster: Cluster,
    history: History,
    choice: random.Random,
    say: Callable[[str], None],
) -> None:
    workload = Workload(
        lambda: cluster.gateway_urls,
        cluster.token,
        cluster.demo_model_url,
        history,
        seed=plan.seed,
        users=plan.users,
        give_up_seconds=plan.give_up_seconds,
    )
    crowd = Crowd(lambda: cluster.gateway_urls, cluster.token, history, choice)
    async with Saboteur(cluster.kafka_bootstrap) as saboteur:
        scene = faults.Scene(cluster, history, saboteur, crowd, choice, plan.pace, say=say)
        working = asyncio.create_task(workload.run(plan.seconds))
        await faults.inflict_all(scene, names, history.now() + plan.seconds, plan.rest_seconds)
        await working
    say(f"chaos: faults end at {history.now():.0f} s; waiting until everything is settled")
    await asyncio.to_thread(cluster.wait_ready, timeout=120)
    await workload.settle()
