"""Rules of Prometheus, made of the objectives and the alerts."""

from __future__ import annotations

from typing import Any

from monitoring.alerts import ALERTS, Alert
from monitoring.slo import BASE_WINDOW, BUDGET_WINDOW, BURN_RATES, PAGE_EVENTS, SLOS, WINDOWS, BurnRate, Severity, Slo

Rule = dict[str, Any]
Group = dict[str, Any]

BAD = f"logue:slo_bad:rate{BASE_WINDOW}"
ALL = f"logue:slo_all:rate{BASE_WINDOW}"
OBJECTIVE = "logue:slo_objective:ratio"
BUDGET_LEFT = "logue:slo_budget_left:ratio"

_SPEED: dict[Severity, str] = {"page": "Fast", "ticket": "Slowly"}


def errors(window: str) -> str:
    """The recorded share of bad events in a window; label `slo`."""
    return f"logue:slo_errors:ratio_rate{window}"


def groups() -> list[Group]:
    """Every rule. Those of a group are evaluated in their order: the alerts see what was just recorded."""
    burns = [_rule(alert) for slo in SLOS for alert in slo_alerts(slo)]
    return [
        {"name": "logue-slo", "interval": "30s", "rules": [*recording_rules(), *burns]},
        {"name": "logue-alerts", "rules": [_rule(alert) for alert in ALERTS]},
    ]


def recording_rules() -> list[Rule]:
    """Rates of each objective's events; from them the share of bad ones in every window, and the budget that is left.

    Long windows add up recorded rates instead of reading the counters of a month: that is cheap, weighs by events, and
    does not care for how many pods there were.
    """
    rules: list[Rule] = []
    for slo in SLOS:
        labels = {"slo": slo.name}
        rules += [
            {"record": OBJECTIVE, "expr": f"vector({slo.objective})", "labels": labels},
            {"record": ALL, "expr": slo.all_events, "labels": labels},
            {"record": BAD, "expr": slo.bad, "labels": labels},
        ]
    # Without an event there is no ratio, rather than 0/0.
    for window in WINDOWS:
        share = f"sum_over_time({BAD}[{window}]) / (sum_over_time({ALL}[{window}]) > 0)"
        rules.append({"record": errors(window), "expr": f"{BAD} / ({ALL} > 0)" if window == BASE_WINDOW else share})
    rules.append({"record": BUDGET_LEFT, "expr": f"1 - {errors(BUDGET_WINDOW)} / (1 - {OBJECTIVE})"})
    return rules


def slo_alerts(slo: Slo) -> list[Alert]:
    """Two alerts for each objective: one that pages, one that can wait for daylight."""
    return [_burns(slo, severity) for severity in _SPEED]


def _burns(slo: Slo, severity: Severity) -> Alert:
    rates = [rate for rate in BURN_RATES if rate.severity == severity]
    above = ", or ".join(f"above {rate.factor:g} over {rate.long}" for rate in rates)
    return Alert(
        f"Logue{slo.camel}Burns{_SPEED[severity]}",
        severity,
        "\nor\n".join(_condition(slo, rate) for rate in rates),
        runbook=slo.name,
        summary=f"{slo.title}: the error budget burns {_SPEED[severity].lower()}.",
        description=f"{slo.means} Promised: {slo.promise}. The burn rate is {above}, and it goes on.",
        labels={"slo": slo.name},
    )


def _condition(slo: Slo, rate: BurnRate) -> str:
    of, threshold = f'{{slo="{slo.name}"}}', f"{rate.factor:g} * {slo.budget:g}"
    conditions = [f"{errors(window)}{of} > {threshold}" for window in (rate.long, rate.short)]
    if rate.severity == "page":
        conditions.append(f"avg_over_time({BAD}{of}[{rate.long}]) * {rate.long_seconds} >= {PAGE_EVENTS}")
    return f"({' and '.join(conditions)})"


def _rule(alert: Alert) -> Rule:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        **({} if alert.wait == "0s" else {"for": alert.wait}),
        "labels": {"severity": alert.severity, **alert.labels},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook": f"docs/runbooks/{alert.runbook}.md",
        },
    }
