"""`make bench`: Logue beside the service that one would have written instead, and what it does by itself.

Variables: `QUICK=1` (two minutes, the comparison only), `PARTS=compare,users,…` (default: all; the others keep the
figures that they have). docs/bench/README.md says how to read what comes out.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import parts, rounds
from tests.bench.report import TARGETS, markdown, plot

from logue_devstack.apache_kafka import jar_folder, missing_tools

_ROOT = Path(__file__).parents[2]
_DOCS = _ROOT / "docs" / "bench"
_BEGIN, _END = "<!-- figures: written by make bench -->\n", "<!-- end of figures -->\n"


def main() -> int:
    """Returns 1 where a target was missed."""
    quick = os.environ.get("QUICK") == "1"
    plan = rounds.QUICK if quick else rounds.FULL
    file = _DOCS / "results.json"
    everything = "compare" if quick else ",".join(["compare", *parts.ALL])
    chosen = (os.environ.get("PARTS") or everything).split(",")
    keeps = file.exists() and not quick and os.environ.get("PARTS")
    results: dict[str, Any] = json.loads(file.read_text()) if keeps else {}
    results["machine"] = f"{os.cpu_count()} shared cores, Python {sys.version.split()[0]}"
    when = f"{datetime.now(UTC):%Y-%m-%d}, commit {_commit()}"
    measured: dict[str, str] = results.setdefault("measured", {})
    gc.freeze()
    if "compare" in chosen:
        names = [rounds.MODEL, rounds.MONOLITH, "logue-noida", *(["logue-apache"] if _has_apache() else [])]
        results["amount"] = f"{plan.rounds} rounds, {plan.unloaded_turns} turns alone, {plan.seconds:g} s a phase"
        results["compare"] = rounds.figures(rounds.measure(names, plan, _say))
        measured["compare"] = when
        _write(results, file, into_readme=not quick)
    for name in chosen:
        if name != "compare":
            part: Callable[[], dict[str, Any]] = parts.ALL[name]
            _say(f"{name} …")
            found = part()
            _say(json.dumps(found))
            results |= found
            measured[name] = when
            _write(results, file, into_readme=not quick)
    print(f"\n{markdown(results)}")
    return int(any(target.reached(results) is False for target in TARGETS))


def _has_apache() -> bool:
    problem = missing_tools(jar_folder())
    if problem is not None:
        _say(f"Without Apache Kafka: {problem}")
    return problem is None


def _say(text: str) -> None:
    print(text, flush=True)


def _commit() -> str:
    command = ["git", "-C", str(_ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip() or "unknown"


def _write(results: dict[str, Any], file: Path, *, into_readme: bool) -> None:
    if not into_readme:
        return
    file.write_text(json.dumps(results, indent=1) + "\n")
    plot(results, _DOCS / "compare.png")
    readme = _DOCS / "README.md"
    before, _, rest = readme.read_text().partition(_BEGIN)
    readme.write_text(f"{before}{_BEGIN}\n{markdown(results)}\n{_END}{rest.partition(_END)[2]}")


if __name__ == "__main__":
    sys.exit(main())
