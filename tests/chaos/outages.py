"""`python -m tests.chaos.outages --seconds 300`: a part is away for long, under load, and what goes on without it.

PostgreSQL away              conversations go on, new ones too; all is stored afterwards
the conversation service     the same
all agents                   turns are accepted, and answered on their return, in order
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.chaos.checker import check
from tests.chaos.figures import figures
from tests.chaos.history import Connection, Exchange, History
from tests.chaos.person import SCENES
from tests.chaos.workload import Workload

from logue_devstack.stack import Stack

#: What needs nothing that is stored. Whoever reads lists, or asks again how a turn stands, waits for the store.
_LIVE = ("stream", "stopped", "long", "flaky", "at_once")


class Outage(NamedTuple):
    """What is away, and what so many users do meanwhile."""

    servers: Sequence[str]
    scenes: Sequence[str]
    users: int


OUTAGES = {
    "PostgreSQL": Outage(("postgres",), _LIVE, 8),
    "conversation service": Outage(("conversation",), _LIVE, 8),
    # Each waits with what it asked.
    "agents": Outage(("agent-0", "agent-1"), tuple(SCENES), 60),
}
#: Before the outage, so that there are conversations that may go on; and after it.
_CALM_SECONDS = 4.0


async def measure(stack: Stack, what: str, seconds: float, seed: int) -> tuple[History, dict[str, Any]]:
    """One outage under load; what the checker found is in the figures."""
    history, away = History(seed=seed), OUTAGES[what]
    workload = Workload(
        lambda: stack.gateway_urls,
        stack.token,
        stack.demo_model_url,
        history,
        seed=seed,
        users=away.users,
        give_up_seconds=seconds + 120,
        scenes=away.scenes,
    )
    working = asyncio.create_task(workload.run(2 * _CALM_SECONDS + seconds))
    await asyncio.sleep(_CALM_SECONDS)
    with history.fault("away", what) as outage:
        for name in away.servers:
            await asyncio.to_thread(stack.kill, name, restart=False)
        await asyncio.sleep(seconds)
    for name in reversed(away.servers):
        await asyncio.to_thread(stack.start_one, name)
    back = history.now()
    await working
    await workload.settle()
    violations = check(history)
    found = figures(history, violations)
    found["outage"] = {
        "what": what,
        "seconds": seconds,
        "back_after_seconds": round(back - (outage.ended or 0), 1),
        "answered_meanwhile": _between(history, outage.began + 1, outage.ended or 0, ended=True),
        "accepted_meanwhile": _between(history, outage.began, outage.ended or 0, ended=False),
        "violations": [f"{each.rule}: {each.turn}: {each.text}" for each in violations[:10]],
    }
    return history, found


def _between(history: History, begin: float, end: float, *, ended: bool) -> int:
    """Turns that a client saw completed, or accepted, in that time."""
    turns: set[str] = set()
    for record in history.records:
        if isinstance(record, Connection):
            wanted = "message.completed" if ended else "turn.started"
            turns |= {
                record.turn_id or "" for event in record.events if event.name == wanted and begin < event.at < end
            }
        elif isinstance(record, Exchange) and record.what == "chat" and begin < record.ended < end:
            turns |= {record.body["turn_id"]} if record.status == (200 if ended else 202) else set()
    return len(turns)


def main() -> int:
    """Prints the figures of each outage; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.outages", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--broker", default="apache")
    parser.add_argument("--what", action="append", choices=sorted(OUTAGES))
    options = parser.parse_args()
    broken = 0
    for what in options.what or OUTAGES:
        with (
            tempfile.TemporaryDirectory(prefix="logue-outage-") as folder,
            Stack(Path(folder), broker=options.broker, gateways=2, agents=2) as stack,
        ):
            _, found = asyncio.run(measure(stack, what, options.seconds, options.seed))
            print(
                json.dumps({"seed": options.seed} | found["outage"] | {"turns": found["turns"]}, indent=1), flush=True
            )
            broken += len(found["outage"]["violations"])
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
