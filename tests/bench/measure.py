"""Quantiles, and the CPU time of processes."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LOAD_GENERATOR = "load generator"
"""This process."""
OTHERS = "others"
"""What else keeps this machine's cores busy: neighbours, the kernel."""
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least the share `q` of all values does not exceed (nearest rank). nan of nothing."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]


def summary(values: Sequence[float]) -> dict[str, float]:
    """Quantiles in a form for JSON."""
    return {"n": len(values), **{f"p{p}": round(quantile(values, p / 100), 2) for p in (50, 95, 99)}}


class CpuClock:
    """CPU seconds of processes by name, each with its children; of this process ("load generator"); of the rest."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids

    def read(self) -> dict[str, float]:
        """Seconds since each process began."""
        table = _process_table()
        seconds = {name: _tree_seconds(table, pid) for name, pid in self._pids.items()}
        seconds[LOAD_GENERATOR] = time.process_time()
        return {**seconds, OTHERS: _machine_seconds() - sum(seconds.values())}

    def since(self, before: Mapping[str, float]) -> dict[str, float]:
        """Seconds since an earlier reading."""
        return {name: seconds - before[name] for name, seconds in self.read().items()}


def _machine_seconds() -> float:
    """Time that all cores were not idle: user, nice, system, irq, softirq, steal (proc(5), /proc/stat)."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(ticks[0:3]) + sum(ticks[5:8])) / _TICKS_PER_SECOND


def _process_table() -> dict[int, tuple[int, float]]:
    """Parent and CPU seconds, with those of children that ended, of every process (proc(5), /proc/pid/stat)."""
    table: dict[int, tuple[int, float]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        table[int(stat.parent.name)] = (int(fields[1]), sum(map(int, fields[11:15])) / _TICKS_PER_SECOND)
    return table


def _tree_seconds(table: Mapping[int, tuple[int, float]], pid: int) -> float:
    children = [child for child, (parent, _) in table.items() if parent == pid]
    return table.get(pid, (0, 0.0))[1] + sum(_tree_seconds(table, child) for child in children)
