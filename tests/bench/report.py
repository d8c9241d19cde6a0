"""From figures to targets, tables and a plot."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Figures = Mapping[str, Any]
_BROKERS = ("logue-noida", "logue-apache")
_TITLES = {
    "model": "the model itself",
    "monolith": "reference monolith",
    "logue-noida": "Logue, embedded broker",
    "logue-apache": "Logue, Apache Kafka",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What one figure has to stay on the right side of; `system` where there is one for each."""

    text: str
    figure: Callable[[Figures], float]
    limit: float
    at_least: bool = False

    def reached(self, results: Figures) -> bool | None:
        """None: it was not measured."""
        value = self.value(results)
        if value is not None and math.isnan(value):
            return None
        compare = operator.ge if self.at_least else operator.le
        return None if value is None else bool(compare(value, self.limit))

    def value(self, results: Figures) -> float | None:
        try:
            return self.figure(results)
        except (KeyError, IndexError, ZeroDivisionError):
            return None


def _median(results: Figures, system: str, phase: str, *path: str) -> float:
    found: Any = results["compare"][system][phase]
    for key in path:
        found = found[key]
    return float(found["median"])


def _ratio(system: str, phase: str, *path: str) -> Callable[[Figures], float]:
    return lambda r: _median(r, system, phase, *path) / _median(r, "monolith", phase, *path)


def _added(results: Figures, system: str, quantile: str) -> float:
    """Milliseconds to the first text beyond what the model itself takes (its median)."""
    return _median(results, system, "unloaded", "first_ms", quantile) - _median(
        results, "model", "unloaded", "first_ms", "p50"
    )


def _added_ratio(system: str, quantile: str) -> Callable[[Figures], float]:
    return lambda r: _added(r, system, quantile) / _added(r, "monolith", quantile)


def _spread_of(part: str, key: str) -> Callable[[Figures], float]:
    def found(results: Figures) -> float:
        values = [run[key] for run in results[part]]
        return float(max(values) / min(values))

    return found


def _errors(results: Figures) -> float:
    return float(sum(phase["errors"] for phases in results["compare"].values() for phase in phases.values()))


def _errors_elsewhere(results: Figures) -> float:
    parts = [
        part if isinstance(part, list) else [part] for name, part in results.items() if name not in ("compare", "most")
    ]
    found = [run["errors"] for runs in parts for run in runs if isinstance(run, dict) and "errors" in run]
    return float(sum(found)) if found else float("nan")


def _targets() -> list[Target]:
    found: list[Target] = []
    for system, times in zip(_BROKERS, (2.0, 1.2), strict=True):
        name = _TITLES[system]
        found += [
            Target(
                f"CPU of a turn at saturation ÷ monolith's · {name}", _ratio(system, "saturated", "own_cpu_ms"), 0.4
            ),
            Target(
                f"turns a second at saturation ÷ monolith's · {name}",
                _ratio(system, "saturated", "per_second"),
                times,
                at_least=True,
            ),
            Target(f"added to the first text, alone, p50 ÷ monolith's · {name}", _added_ratio(system, "p50"), 1.0),
            Target(f"added to the first text, alone, p99 ÷ monolith's · {name}", _added_ratio(system, "p99"), 1.0),
        ]
    return [
        *found,
        Target("errors in the comparison", _errors, 0),
        Target("errors in all other parts", _errors_elsewhere, 0),
        Target("1,000 users: tokens late by, p95 (ms)", lambda r: r["users"]["late_ms"]["token"]["p95"], 200),
        Target("1,000 users: errors", lambda r: r["users"]["errors"], 0),
        Target(
            "1,000 streams of 2 tokens/s: late by, p95 (ms)", lambda r: r["streams"]["late_ms"]["token"]["p95"], 200
        ),
        Target("1,000 streams of 2 tokens/s: errors", lambda r: r["streams"]["errors"], 0),
        Target("open streams, none dropped", lambda r: r["open"]["dropped"], 0),
        Target("open streams: delivery p99 (ms)", lambda r: r["open"]["delivery_ms"]["p99"], 250),
        Target("open streams: KiB each", lambda r: r["open"]["kib_per_stream"]["after_events"], 30),
        Target("open streams: late heartbeats", lambda r: r["open"]["heartbeats"]["late"], 0),
        Target(
            "events stored a second, by two processes",
            lambda r: r["drain"][1]["events_per_second"],
            20_000,
            at_least=True,
        ),
        Target("a page of history under load, p95 (ms)", lambda r: r["history"]["page_ms"]["p95"], 20),
        Target(
            "CPU of a turn, 10 to 1,000 at once: highest ÷ lowest",
            _spread_of("concurrency", "own_cpu_ms_per_turn"),
            1.2,
        ),
        Target(
            "CPU of a turn, 1,000th ÷ 10th", lambda r: r["turns"][1]["own_cpu_ms"] / r["turns"][0]["own_cpu_ms"], 1.2
        ),
        Target(
            "turns per CPU second of agents, 1 to 4 with as much to do each: highest ÷ lowest",
            _spread_of("agents", "turns_per_cpu_second"),
            1.1,
        ),
        Target(
            "turns per CPU second of gateways, 1 to 4 with as much to do each: highest ÷ lowest",
            _spread_of("gateways", "turns_per_cpu_second"),
            1.1,
        ),
    ]


TARGETS = _targets()


def markdown(results: Figures) -> str:
    """The tables of a run."""
    parts = [f"{results['machine']}; the comparison: {results['amount']}. {_when(results['measured'])}", ""]
    rows = [
        [
            t.text,
            f"{'≥' if t.at_least else '≤'} {t.limit:g}",
            f"{value:.3g}",
            "reached" if t.reached(results) else "**missed**",
        ]
        for t in TARGETS
        if (value := t.value(results)) is not None and not math.isnan(value)
    ]
    parts += table(["Target", "limit", "measured", ""], rows)
    for phase, title in (
        ("unloaded", "One user, one question after the other"),
        ("steady", "60 turns a second, evenly (open loop)"),
        ("saturated", "32 users without a pause"),
        ("paced", "25 turns a second, replies of 20 tokens in 1.2 s: each token comes by itself"),
    ):
        parts += ["", f"**{title}**", "", *_phase_table(results["compare"], phase)]
    return "\n".join(parts) + "\n"


def _when(measured: Mapping[str, str]) -> str:
    """Which parts were measured when: a run of some leaves the figures of the others as they were."""
    by_run: dict[str, list[str]] = {}
    for part, when in measured.items():
        by_run.setdefault(when, []).append(part)
    return " ".join(f"Measured {when}: {', '.join(parts)}." for when, parts in sorted(by_run.items(), reverse=True))


def _phase_table(compare: Figures, phase: str) -> list[str]:
    columns = [
        "",
        "turns/s",
        "first text p50 (ms)",
        "p95",
        "p99",
        "CPU a turn, service (ms)",
        "with broker and database",
        "all processes (ms a turn)",
        "errors",
    ]
    rows = []
    for system, phases in compare.items():
        found = phases[phase]
        others = ", ".join(f"{name} {value:.2f}" for name, value in found["cpu_ms"].items())
        cpu = ["–" if system == "model" else _with_spread(found[key], 2) for key in ("own_cpu_ms", "all_cpu_ms")]
        first = [_with_spread(found["first_ms"][p], 1) for p in ("p50", "p95", "p99")]
        rows.append([_TITLES[system], _with_spread(found["per_second"], 0), *first, *cpu, others, str(found["errors"])])
    return table(columns, rows)


def _with_spread(spread: Mapping[str, float], digits: int) -> str:
    return f"{spread['median']:.{digits}f} ({spread['low']:.{digits}f}–{spread['high']:.{digits}f})"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, line by line."""
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]


def plot(results: Figures, path: Path) -> None:
    """Saturation, CPU and first text, side by side."""
    import matplotlib as mpl  # noqa: PLC0415 (only who makes the plot waits for it)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    compare = results["compare"]
    names = [name for name in compare if name != "model"]
    colors = ["#9aa5b1", "#5b8def", "#2450a4"][: len(names)]
    panels: list[tuple[str, Callable[[str], Mapping[str, float]]]] = [
        ("turns a second, 32 users without a pause", lambda name: compare[name]["saturated"]["per_second"]),
        ("ms of CPU a turn, the service's own processes", lambda name: compare[name]["saturated"]["own_cpu_ms"]),
        ("ms to the first text, one user", lambda name: compare[name]["unloaded"]["first_ms"]["p50"]),
    ]
    figure, axes = plt.subplots(1, len(panels), figsize=(12, 3.6))
    for axis, (title, value) in zip(axes, panels, strict=True):
        spreads = [value(name) for name in names]
        heights = [s["median"] for s in spreads]
        errors = [[s["median"] - s["low"] for s in spreads], [s["high"] - s["median"] for s in spreads]]
        bars = axis.bar(
            [_TITLES[name].replace(", ", ",\n").replace("reference ", "reference\n") for name in names],
            heights,
            yerr=errors,
            capsize=4,
            color=colors,
        )
        axis.bar_label(bars, fmt="%.3g", padding=3)
        axis.set_title(title, fontsize=10)
        axis.margins(y=0.15)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    figure.suptitle(f"20-token replies, {results['machine']}: medians, lowest and highest of the rounds", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
