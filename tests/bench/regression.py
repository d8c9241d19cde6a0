"""`make bench-check`: has a turn become dearer? CPU of a turn on Apache Kafka, as a share of the reference monolith's.

Both are up side by side and are loaded in turn for two seconds each, so that whatever slows the machine meets both; the
median of the pairs counts. It fails above 1.15 times the share on record (docs/bench/share.json), and looks at as many
pairs again before it says so. A share holds for the number of cores that it was measured on: with more of them, batches
are larger or smaller. `--record` puts a new one on record.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

import uvloop
from tests.bench import systems
from tests.bench.compare import saturated
from tests.bench.systems import System
from tests.bench.users import Population

_RECORD = Path(__file__).parents[2] / "docs" / "bench" / "share.json"
#: How much dearer than on record is too much.
TOLERANCE = 1.15
_PAIRS = 10
_BLOCK_SECONDS = 2.0
_WARM_UP_SECONDS = 6.0
_CLIENTS = 32


async def shares(reference: System, logue: System) -> list[float]:
    """Of each pair of blocks: CPU of a turn of Logue, as a share of the reference's."""
    users = {system.name: Population(system, 100) for system in (reference, logue)}

    async def cost(system: System, seconds: float) -> float:
        block = await saturated(system, users[system.name], _CLIENTS, seconds)
        if wrong := [error for error in block.errors if "refused" not in error]:
            raise RuntimeError(f"{system.name}: {len(wrong)} errors, such as {wrong[0]}")
        return block.cpu_ms_per_turn(system.own)

    async def pairs() -> list[float]:
        found: list[float] = []
        for _ in range(_PAIRS):
            theirs = await cost(reference, _BLOCK_SECONDS)
            found.append(await cost(logue, _BLOCK_SECONDS) / theirs)
        return found

    for system in (reference, logue):
        await cost(system, _WARM_UP_SECONDS)
    found = await pairs()
    if is_dearer(median(found), recorded()):
        found += await pairs()
    for population in users.values():
        population.close()
    return found


def is_dearer(share: float, record: float) -> bool:
    """True when it is above what the record allows."""
    return share > record * TOLERANCE


def recorded() -> float:
    """The share on record for a machine like this one; 0 when there is none, so that everything is dearer."""
    record = json.loads(_RECORD.read_text()) if _RECORD.exists() else {}
    return float(record["share"]) if record.get("cores") == os.cpu_count() else 0.0


def main() -> int:
    """1 when a turn has become dearer."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.regression", description=__doc__)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="logue-bench-") as name:
        folder = Path(name)
        with (
            systems.model(folder) as model,
            systems.monolith(folder / "monolith", model) as reference,
            systems.logue(folder / "logue", "apache", model) as logue,
        ):
            gc.freeze()
            found = uvloop.run(asyncio.wait_for(shares(reference, logue), 300))
    share, record = median(found), recorded()
    spread = f"lowest {min(found):.3f}, highest {max(found):.3f}, {len(found)} pairs"
    said = f"bench-check: a turn takes {share:.3f} of the reference's CPU ({spread})"
    if options.record:
        _RECORD.write_text(json.dumps({"share": round(share, 3), "cores": os.cpu_count()}) + "\n")
        print(f"{said}; that is on record now.")
        return 0
    if is_dearer(share, record):
        allowed = f"more than {TOLERANCE} times the {record:.3f} on record" if record else "no record of such a machine"
        print(f"{said}: {allowed}. Find out why, or put it on record (--record).")
        return 1
    print(f"{said}; on record is {record}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
