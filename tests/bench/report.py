"""From answers to figures, and from figures to Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.calls import Answer
from tests.bench.load import Answers
from tests.bench.measure import OTHERS, quantile, summary

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """What one figure of a broker's figures has to stay below."""

    text: str
    path: tuple[str, ...]
    limit: float

    def reached(self, figures: Figures) -> float:
        found: Any = figures
        for key in self.path:
            found = found[key]
        return float(found)


TARGETS = (
    Target("added TTFT p50, alone, new conversation (ms)", ("alone", "new", "added_first", "p50"), 12),
    Target("added TTFT p95, alone, new conversation (ms)", ("alone", "new", "added_first", "p95"), 30),
    Target("added TTFT p50, alone, known conversation (ms)", ("alone", "known", "added_first", "p50"), 12),
    Target("added TTFT p95, alone, known conversation (ms)", ("alone", "known", "added_first", "p95"), 30),
    Target("added TTFT p95, 100 users (ms)", ("users", "logue", "added_first", "p95"), 200),
    Target("errors", ("errors",), 0),
)


def figures_of(alone: Answers, users: Answers) -> dict[str, Any]:
    """Everything that is reported of one broker. Answers with errors count as errors and nowhere else."""
    errors = alone.errors() + users.errors()
    return {
        "alone": _ways(alone, paired=True),
        "users": _ways(users, paired=False),
        "cpu": {way: _cpu(users, way) for way in users.cpu_seconds},
        "errors": len(errors),
        "error_examples": errors[:5],
    }


def _ways(answers: Answers, *, paired: bool) -> dict[str, Any]:
    direct = answers.by_way["direct"]
    found: dict[str, Any] = {}
    for way, all_of in answers.by_way.items():
        good = [answer for answer in all_of if not answer.error]
        found[way] = {
            "first": summary([answer.first_ms for answer in good]),
            "total": summary([answer.total_ms for answer in good]),
        }
        if way != "direct":
            found[way]["added_first"] = summary(added_first(all_of, direct, paired=paired))
    return found


def added_first(logue: Sequence[Answer], direct: Sequence[Answer], *, paired: bool) -> list[float]:
    """Milliseconds that Logue added to the first token: against the direct call of the same round, or the median."""
    if paired:
        rounds = zip(logue, direct, strict=True)
        return [mine.first_ms - other.first_ms for mine, other in rounds if not (mine.error or other.error)]
    median = quantile([answer.first_ms for answer in direct if not answer.error], 0.5)
    return [answer.first_ms - median for answer in logue if not answer.error]


def _cpu(answers: Answers, way: str) -> dict[str, dict[str, float]]:
    """By process: CPU milliseconds per turn, and percent of one core."""
    turns, seconds, cpu = len(answers.by_way[way]), answers.seconds[way], answers.cpu_seconds[way]
    return {
        "ms_per_turn": {name: round(used * 1000 / turns, 2) for name, used in cpu.items()},
        "percent": {name: round(used * 100 / seconds, 1) for name, used in cpu.items()},
    }


def markdown(results: Mapping[str, Any]) -> str:
    """The tables of a whole run."""
    brokers: Mapping[str, Figures] = results["brokers"]
    parts = [f"{results['date']}, {results['machine']}, commit {results['commit']}; {results['amount']}.", ""]
    parts += table(["Target", "limit", *brokers], [_target_row(target, brokers) for target in TARGETS])
    for phase, title in (("alone", "One at a time"), ("users", f"{results['users']} users at a time")):
        rows = [row for broker, figures in brokers.items() for row in _phase_rows(broker, figures[phase])]
        columns = ["Broker", "way", "calls", "TTFT p50", "p95", "p99", "added p50", "p95", "p99", "total p50", "p95"]
        parts += ["", f"**{title}** (ms)", "", *table(columns, rows)]
    parts += ["", f"**CPU with {results['users']} users**", "", *_cpu_table(brokers)]
    for broker, figures in brokers.items():
        parts += [f"\n{broker}: {figures['errors']} errors, such as", *figures["error_examples"]] * bool(
            figures["errors"]
        )
    return "\n".join(parts) + "\n"


def _target_row(target: Target, brokers: Mapping[str, Figures]) -> list[str]:
    values = [target.reached(figures) for figures in brokers.values()]
    # Written so that nan (nothing was measured) is a miss.
    cells = [f"{value:g} {'reached' if value <= target.limit else '**missed**'}" for value in values]
    return [target.text, f"≤ {target.limit:g}", *cells]


def _phase_rows(broker: str, phase: Figures) -> list[list[str]]:
    rows: list[list[str]] = []
    for way, figures in phase.items():
        first, total, added = figures["first"], figures["total"], figures.get("added_first")
        quantiles = [first[p] for p in ("p50", "p95", "p99")]
        quantiles += [added[p] if added else None for p in ("p50", "p95", "p99")]
        quantiles += [total["p50"], total["p95"]]
        rows.append(
            [broker, way, f"{first['n']:.0f}", *("" if value is None else f"{value:.1f}" for value in quantiles)]
        )
    return rows


def _cpu_table(brokers: Mapping[str, Figures]) -> list[str]:
    """Of direct blocks the share of a core tells what Logue's processes use when there is nothing to do."""
    shown = [
        ("direct", "percent", "direct, % of a core"),
        ("logue", "percent", "logue, % of a core"),
        ("logue", "ms_per_turn", "logue, ms per turn"),
    ]
    names = list(next(iter(brokers.values()))["cpu"]["logue"]["percent"]) if brokers else []
    rows: list[list[str]] = []
    for broker, figures in brokers.items():
        for way, unit, text in shown:
            values: Mapping[str, float] = figures["cpu"][way][unit]
            rows.append([broker, text, *(f"{values[name]:.1f}" for name in names), f"{_ours(values):.1f}"])
    return table(["Broker", "", *names, f"sum without {OTHERS}"], rows)


def _ours(values: Mapping[str, float]) -> float:
    return sum(value for name, value in values.items() if name != OTHERS)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, line by line."""
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
