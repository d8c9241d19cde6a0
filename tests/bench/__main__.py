"""`make bench`: what Logue adds to a direct call of the model, on each kind of broker.

Variables: `QUICK=1` (two minutes), `BROKERS=noida,apache` (default: both, where both can run). How to read the
figures: docs/bench/README.md.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from tests.bench.load import Plan, many_at_a_time, one_at_a_time
from tests.bench.report import TARGETS, figures_of, markdown

from logue_devstack.apache_kafka import jar_folder, missing_tools
from logue_devstack.stack import Stack

_ROOT = Path(__file__).parents[2]
_RESULTS = _ROOT / "docs" / "bench"
_QUICK = Plan(rounds=50, blocks=1, block_seconds=10.0)
_FULL = Plan(rounds=300, blocks=3, block_seconds=20.0)
_BEGIN, _END = "<!-- figures: written by make bench -->\n", "<!-- end of figures -->\n"


def main() -> int:
    """Returns 1 where a target was missed."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        os.environ.pop(name, None)  # the demo model is what we compare with
    plan = _QUICK if os.environ.get("QUICK") == "1" else _FULL
    brokers = [name for name in os.environ.get("BROKERS", "noida,apache").split(",") if _can_run(name)]
    results: dict[str, Any] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} shared cores, Python {sys.version.split()[0]}",
        "commit": _commit(),
        "amount": f"{plan.rounds} rounds alone, {plan.blocks} × {plan.block_seconds:g} s with {plan.users} users",
        "users": plan.users,
        "brokers": {name: measure(name, plan) for name in brokers},
    }
    text = markdown(results)
    print(f"\n{text}")
    _write(results, text)
    found = [(target, figures) for figures in results["brokers"].values() for target in TARGETS]
    return int(not all(target.reached(figures) <= target.limit for target, figures in found))


def measure(broker: str, plan: Plan) -> dict[str, Any]:
    """All figures of one broker, on a system of its own with nothing in it."""
    print(f"{broker}: starting the system …", flush=True)
    # A crash must show as errors, so nothing is started again.
    with (
        tempfile.TemporaryDirectory(prefix="logue-bench-") as folder,
        Stack(Path(folder), broker=broker, restart_crashed=False) as stack,
    ):
        return asyncio.run(_measure(stack, broker, plan))


async def _measure(stack: Stack, broker: str, plan: Plan) -> dict[str, Any]:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    async with aiohttp.ClientSession(connector=connector) as http:
        gc.freeze()
        print(f"{broker}: one at a time …", flush=True)
        alone = await one_at_a_time(stack, http, plan)
        print(f"{broker}: {plan.users} users at a time …", flush=True)
        users = await many_at_a_time(stack, http, plan)
    return figures_of(alone, users)


def _can_run(broker: str) -> bool:
    problem = missing_tools(jar_folder()) if broker == "apache" else None
    if problem is not None:
        print(f"Without {broker}: {problem}")
    return problem is None


def _commit() -> str:
    command = ["git", "-C", str(_ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip() or "unknown"


def _write(results: dict[str, Any], text: str) -> None:
    (_RESULTS / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    readme = _RESULTS / "README.md"
    before, _, rest = readme.read_text().partition(_BEGIN)
    readme.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{rest.partition(_END)[2]}")


if __name__ == "__main__":
    sys.exit(main())
