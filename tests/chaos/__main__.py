"""`python -m tests.chaos --seconds 1800 --seed 7`: the longer run that docs/reliability.md has its figures from."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos import faults
from tests.chaos.cluster import missing
from tests.chaos.run import Plan, run


def main() -> int:
    """0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--users", type=int, default=12)
    parser.add_argument("--fault", action="append", choices=sorted(faults.ALL), help="only these; may be repeated")
    parser.add_argument("--pace", type=float, default=1.0, help="stretches how long faults last")
    parser.add_argument("--folder", type=Path, help="where history, logs and figures go (default: a new one)")
    options = parser.parse_args()
    if lacks := missing():
        print("\n".join(lacks), file=sys.stderr)
        return 2
    folder = options.folder or Path(tempfile.mkdtemp(prefix="logue-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    names = tuple(options.fault or faults.ALL)
    plan = Plan(options.seconds, options.seed, options.users, names, options.pace)
    verdict = asyncio.run(run(plan, folder))
    (folder / "figures.json").write_text(json.dumps(verdict.figures, indent=1, default=str))
    print(verdict.text)
    print(f"chaos: history, logs and figures are in {folder}")
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
