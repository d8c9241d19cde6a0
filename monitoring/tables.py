"""The tables of docs/slo.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from monitoring.alerts import ALERTS, JOBS
from monitoring.rules import slo_alerts
from monitoring.slo import BURN_RATES, SLOS


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _link(runbook: str) -> str:
    return f"[{runbook}](runbooks/{runbook}.md)"


def objectives() -> str:
    """What is promised, and how it is counted."""
    rows = [
        [
            f"**{slo.title}**",
            slo.promise,
            f"`{slo.metric}`, bucket {slo.bound_seconds:g}" if slo.metric else "counters, below",
            f"{slo.budget * 100:g} %",
            _link(slo.name),
        ]
        for slo in SLOS
    ]
    return _table(("Objective", "Promised", "Counted by", "Error budget", "Runbook"), rows)


def burn_rates() -> str:
    """When a burning budget becomes an alert."""
    rows = [
        [
            f"{rate.factor:g}",
            rate.long,
            rate.short,
            rate.severity,
            *(f"{rate.factor * slo.budget * 100:.3g} %" for slo in SLOS[:2]),
        ]
        for rate in BURN_RATES
    ]
    heads = ("Burn rate", "Long window", "Short window", "Severity", "Bad events, of 99.9 %", "Bad events, of p95")
    return _table(heads, rows)


def alerts() -> str:
    """Every alert once, with its runbook."""
    every = [*(alert for slo in SLOS for alert in slo_alerts(slo)), *ALERTS]
    rows = {alert.name: [f"`{alert.name}`", alert.severity, alert.summary, _link(alert.runbook)] for alert in every}
    for row in rows.values():
        row[2] = row[2].replace("{{ $labels.job }}", "A service").replace(" at {{ $labels.instance }}", "")
        row[2] = row[2].replace(JOBS[-1], "a service")
    return _table(("Alert", "Severity", "Says", "Runbook"), rows.values())


TABLES: dict[str, Callable[[], str]] = {"objectives": objectives, "burn_rates": burn_rates, "alerts": alerts}
