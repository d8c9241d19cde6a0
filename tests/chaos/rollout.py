"""`python -m tests.chaos.rollout`: every process of a running system is replaced, under load, as Kubernetes does it.

Three gateways, three agents and two conversation services on one machine. A proxy stands before the gateways, another
one before the conversation services; like a Kubernetes Service, each gives new connections to the pods that are ready
and leaves open ones alone. Probes, surge, preStop, drain and grace periods are those of `deploy/k8s/base`.
Users ask, read, resume, stop and branch meanwhile; none of what they do can fail but by the system's fault.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.checker import Violation, check
from tests.chaos.deployment import Deployment, Replacement
from tests.chaos.facts import Facts
from tests.chaos.figures import Pause, figures, pauses_of
from tests.chaos.history import Connection, Exchange, Fault, History
from tests.chaos.manifests import Manifest
from tests.chaos.person import SCENES
from tests.chaos.proxy import Proxy
from tests.chaos.workload import Workload
from tests.e2e.sse import ENDS

from logue_devstack.ports import Ports
from logue_devstack.server import LOOPBACK
from logue_devstack.stack import Stack

#: In the order of deploy/k8s/rollout.sh.
KINDS = ("conversation", "agent", "gateway")
_REPLICAS = {"gateways": 3, "agents": 3, "conversations": 2}
#: Links of the proxy; agents have none, for nobody calls them.
_GATEWAYS, _CONVERSATIONS = "client>gateway", "service>conversation"
#: Without those whose turns fail on purpose; more often than otherwise those that last.
_SCENES = (*(name for name in SCENES if name not in {"failing", "flaky", "rejected"}), *["long"] * 6)
#: A kept-alive connection may close under a request that is being sent; clients send it again then, as browsers do.
_CLOSING_SECONDS = 0.5
#: A pause that begins this soon after a replacement may be its work.
_AFTERMATH_SECONDS = 1.0
_LONGEST_RUN_SECONDS = 3600.0
_GAP = re.compile(r"\bgap=([0-9.]+)")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. `pace` shortens what the manifests wait for on purpose, and the long turns with it."""

    seed: int
    broker: str = "noida"
    kinds: Sequence[str] = KINDS
    users: int = 24
    pace: float = 1.0
    thinking_seconds: float = 2.0
    #: Longer than an agent's drain (20 s): some turns end where they began, some at the next owner.
    long_seconds: float = 25.0
    #: Before the first, between two kinds, and after the last.
    calm_seconds: float = 10.0
    give_up_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    history: History
    violations: list[Violation]
    figures: dict[str, Any]

    @property
    def is_unnoticed(self) -> bool:
        """No broken promise, no failed turn, nothing refused, no lost character; and every process ended in time."""
        wrong = ("failed", "refused", "connections_not_taken", "lost_characters", "killed")
        return not self.violations and not any(self.figures[name] for name in wrong)


async def run(plan: Plan, folder: Path, say: Callable[[str], None] = print) -> Outcome:
    """Carry out `plan`; history and logs are in `folder` afterwards."""
    say(f"rollout: seed {plan.seed}, {plan.broker}, {plan.users} users")
    manifests = {kind: Manifest.read(kind, plan.pace) for kind in KINDS}
    history = History(seed=plan.seed)
    with _system(plan, manifests, folder, say) as (stack, proxy):
        before = _not_taken(proxy)
        replacements = await _replace_all(plan, manifests, stack, proxy, history, say)
        not_taken = _not_taken(proxy) - before
    shutil.rmtree(folder / plan.broker, ignore_errors=True)
    # Judged before the replacements are noted: they are no fault that could excuse anything.
    violations = check(history)
    found = _figures(history, violations, replacements) | {"connections_not_taken": not_taken}
    for each in replacements:
        history.add(Fault(f"replacement of {each.kind}", f"{each.old} by {each.new}", each.began, each.ended))
    history.write(folder / "history.jsonl")
    return Outcome(history, violations, found)


@contextmanager
def _system(
    plan: Plan, manifests: dict[str, Manifest], folder: Path, say: Callable[[str], None]
) -> Iterator[tuple[Stack, Proxy]]:
    ports = Ports.random(**_REPLICAS)
    with Proxy(folder / "logs", seed=plan.seed) as proxy:
        proxy.link(_GATEWAYS, ports.gateways)
        conversations = f"{LOOPBACK}:{proxy.link(_CONVERSATIONS, ports.conversations)}"
        with Stack(
            folder,
            broker=plan.broker,
            ports=ports,
            service_environment={kind: manifest.environment for kind, manifest in manifests.items()},
            routes={(kind, "conversation"): conversations for kind in ("gateway", "agent")},
            restart_crashed=False,
            report=say,
        ) as stack:
            yield stack, proxy


def _not_taken(proxy: Proxy) -> int:
    """Connections that a pod did not accept, although it was said to be ready."""
    return sum(link["unreachable"] for link in proxy.stats().values())


async def _replace_all(
    plan: Plan,
    manifests: dict[str, Manifest],
    stack: Stack,
    proxy: Proxy,
    history: History,
    say: Callable[[str], None],
) -> list[Replacement]:
    """One kind after the other, one pod after the other, while the workload goes on; then all is read back."""
    endpoints: dict[str, Callable[[Sequence[int]], object]] = {
        "conversation": lambda ports: proxy.retarget(_CONVERSATIONS, ports),
        "agent": lambda ports: None,
        "gateway": lambda ports: proxy.retarget(_GATEWAYS, ports),
    }
    workload = Workload(
        lambda: [f"http://{LOOPBACK}:{proxy.port_of(_GATEWAYS)}"],
        stack.token,
        stack.demo_model_url,
        history,
        seed=plan.seed,
        users=plan.users,
        give_up_seconds=plan.give_up_seconds,
        scenes=_SCENES,
        thinking_seconds=plan.thinking_seconds,
        long_seconds=plan.long_seconds * plan.pace,
    )
    replacements: list[Replacement] = []
    async with AsyncExitStack() as held:
        deployments = [
            await held.enter_async_context(Deployment(stack, manifests[kind], history, endpoints[kind]))
            for kind in plan.kinds
        ]
        async with asyncio.TaskGroup() as group:
            group.create_task(workload.run(_LONGEST_RUN_SECONDS))
            await asyncio.sleep(plan.calm_seconds)
            for deployment in deployments:
                for each in await deployment.roll_out():
                    replacements.append(each)
                    ready, ended = each.ready - each.began, each.ended - each.stopped
                    say(
                        f"rollout: {each.began:6.1f} s {each.new} instead of {each.old}: ready after {ready:.1f} s, "
                        f"which ended {ended:.1f} s after SIGTERM"
                    )
                await asyncio.sleep(plan.calm_seconds)
            workload.finish()
        await workload.settle()
    return replacements


# --- figures ---------------------------------------------------------------------------------------------------------


def _figures(history: History, violations: Sequence[Violation], replacements: list[Replacement]) -> dict[str, Any]:
    facts, found = Facts(history), figures(history, violations)
    characters, lost = _characters(facts)
    refused, sent_again = _refusals(history, replacements)
    return {
        **{name: found[name] for name in ("seed", "users", "turns", "completed", "cancelled", "failed")},
        "seconds": round(max(each.ended for each in replacements) - min(each.began for each in replacements), 1),
        "replaced": dict(Counter(each.kind for each in replacements)),
        "killed": [each.old for each in replacements if not each.in_time],
        "views": found["views"],
        "streams_resumed": found["streams_resumed"],
        "streams_ended_by_a_gateway": sum(_was_ended_early(connection) for connection in history.connections),
        "turns_started_over": len({view.turn_id for view in facts.all_views if view.resets}),
        "most_often_one_turn": max((view.resets for view in facts.all_views), default=0),
        "refused": refused,
        "sent_again": sent_again,
        "characters": characters,
        "lost_characters": lost,
        "violations": dict(Counter(violation.rule for violation in violations)),
        "longest_pause_seconds": _longest(_pauses(facts), replacements),
        "longest_lookup_seconds": _longest(_lookups(history), replacements),
    }


def _characters(facts: Facts) -> tuple[int, int]:
    """Of replies that clients followed to their end: all, and those that they were not shown."""
    characters = lost = 0
    for turn in facts.turns.values():
        content = turn.end.content if turn.end is not None else None
        for view in turn.views:
            if view.end is not None and content is not None:
                characters += len(content)
                pairs = zip(content, view.text, strict=False)
                lost += len(content) - sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    return characters, lost


def _refusals(history: History, replacements: list[Replacement]) -> tuple[list[str], int]:
    """What clients got instead of what they asked for; and how many requests only met a connection that closed."""
    refused, sent_again = [], 0
    closings = [each.stopped for each in replacements if each.kind == "gateway"]
    for record in history.records:
        if isinstance(record, Exchange):
            text = f"{record.what} {record.subject}: {record.status or record.broken} {record.body}"
            is_refused = record.status is None or record.status == 429 or record.status >= 500
        elif isinstance(record, Connection):
            text = f"{record.method} {record.key}: {record.status}, {record.ending} {record.body}"
            is_refused = record.status != 200 or record.ending == "broken"
        else:
            continue
        if not is_refused:
            continue
        if record.status is None and any(abs(record.began - closing) < _CLOSING_SECONDS for closing in closings):
            sent_again += 1
        else:
            refused.append(f"{record.began:.2f} s to {record.ended:.2f} s: {text}")
    return refused, sent_again


def _was_ended_early(connection: Connection) -> bool:
    return connection.ending == "closed" and not any(event.name in ENDS for event in connection.events)


def _pauses(facts: Facts) -> Iterator[Pause]:
    """In which a client saw nothing new of a turn that ran, less what the model took for its next word."""
    for turn in facts.turns.values():
        gap = _GAP.search(turn.ask.message)
        for view in turn.views:
            for pause in pauses_of(view):
                yield Pause(pause.began, pause.seconds - (float(gap[1]) if gap else 0.0), pause.turn)


def _lookups(history: History) -> Iterator[Pause]:
    """How long everything but a reply was waited for."""
    for exchange in history.exchanges:
        if exchange.what != "chat":
            yield Pause(exchange.began, exchange.ended - exchange.began, exchange.subject)


def _longest(pauses: Iterable[Pause], replacements: list[Replacement]) -> dict[str, float]:
    """By the kind that was being replaced; `none`: by nobody."""
    longest = dict.fromkeys(("none", *KINDS), 0.0)
    for pause in pauses:
        ended = pause.began + pause.seconds
        during = {
            each.kind for each in replacements if pause.began <= each.ended + _AFTERMATH_SECONDS and ended >= each.began
        }
        for kind in during or {"none"}:
            longest[kind] = max(longest[kind], round(pause.seconds, 2))
    return longest


def main() -> int:
    """Prints the figures; 1 when a client noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.rollout", description=__doc__)
    parser.add_argument("--broker", default="apache")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only these; may be repeated")
    parser.add_argument("--users", type=int, default=24)
    parser.add_argument("--pace", type=float, default=1.0, help="1: all waits as in the manifests")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--folder", type=Path, help="where history and logs go (default: a new one)")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="logue-rollout-"))
    plan = Plan(options.seed, options.broker, options.kind or KINDS, options.users, options.pace)
    outcome = asyncio.run(run(plan, folder))
    print(json.dumps(outcome.figures, indent=1))
    for violation in outcome.violations[:20]:
        print(f"{violation.rule}: turn {violation.turn}: {violation.text}")
    print(f"rollout: history and logs are in {folder}")
    return 0 if outcome.is_unnoticed else 1


if __name__ == "__main__":
    sys.exit(main())
