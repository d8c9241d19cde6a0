"""Cases of the objectives' alerts, generated: each objective burns its budget so fast for so long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from monitoring.rules import slo_alerts
from monitoring.slo import AVAILABILITY, CHAT, RESUMES, SLOS, Severity, Slo
from tests.observability.promtool import Case, counter

#: So many events a minute, of each objective.
_EVENTS = 10_000.0
_HOUR = 60

Parts = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Burn:
    """Minutes (by fives) and burn rate, part after part; whether the alerts of this severity fire at the end."""

    name: str
    severity: Severity
    parts: Parts
    fires: bool
    #: Where there are only so many bad events an hour, of any objective, at this burn rate.
    bad_an_hour: float | None = None

    @property
    def minutes(self) -> int:
        return sum(minutes for minutes, _ in self.parts)


#: "After rest" keeps the longer windows below their thresholds, so that the pair in question alone decides. The pairs
#: of tickets cannot be told apart: what burns 3 times as fast for a day has burnt as much as it may in three.
BURNS = (
    Burn("a little below 14.4 for an hour, after rest", "page", ((10 * _HOUR, 0), (65, 14.4 * 0.95)), fires=False),
    Burn("a little above 14.4 for an hour, after rest", "page", ((10 * _HOUR, 0), (65, 14.4 * 1.05)), fires=True),
    Burn("a little below 6 for six hours", "page", ((10 * _HOUR, 0), (370, 6 * 0.95)), fires=False),
    Burn("a little above 6 for six hours", "page", ((10 * _HOUR, 0), (370, 6 * 1.05)), fires=True),
    Burn("fast for an hour, and over since five minutes", "page", ((10 * _HOUR, 0), (65, 20), (5, 0)), fires=False),
    Burn("for hours, and over since half an hour", "page", ((10 * _HOUR, 0), (220, 12), (35, 0)), fires=False),
    Burn("fast, for five minutes only", "page", ((10 * _HOUR, 0), (5, 20)), fires=False),
    Burn("a little below 1, always", "ticket", ((8 * _HOUR, 0.95),), fires=False),
    Burn("a little above 1, always", "ticket", ((8 * _HOUR, 1.05),), fires=True),
    Burn("a little above 3 for a day", "ticket", ((10 * _HOUR, 0), (24 * _HOUR, 3.15)), fires=True),
    Burn(
        "twice as fast for a day, and over since seven hours", "ticket", ((24 * _HOUR, 2), (7 * _HOUR, 0)), fires=False
    ),
    Burn("slowly, for six hours only", "ticket", ((24 * _HOUR, 0), (6 * _HOUR, 1.2)), fires=False),
    Burn("fast, but four events in that hour", "page", ((10 * _HOUR, 0), (65, 20)), fires=False, bad_an_hour=4.7),
    Burn("fast, and five events in that hour", "page", ((10 * _HOUR, 0), (65, 20)), fires=True, bad_an_hour=5.3),
    Burn("no event at all", "page", ((2 * _HOUR, 20),), fires=False, bad_an_hour=0),
)


def series(slo: Slo, parts: Parts, events: float = _EVENTS) -> dict[str, str]:
    """What is scraped while the budget of `slo` burns so, with so many events a minute."""
    bad = counter(*((minutes, events * rate * slo.budget) for minutes, rate in parts))
    good = counter(*((minutes, events * (1 - rate * slo.budget)) for minutes, rate in parts))
    every = counter(*((minutes, events) for minutes, _ in parts))
    if slo is AVAILABILITY:
        name = "logue_gateway_requests_total"
        return {f'{name}{{{CHAT},status="200"}}': good, f'{name}{{{CHAT},status="503"}}': bad}
    if slo is RESUMES:
        name = "logue_gateway_resumes_total"
        return {
            f'{name}{{source="log",result="complete"}}': good,
            f'{name}{{source="log",result="failed"}}': bad,
        }
    return {f"{slo.metric}_count": every, f'{slo.metric}_bucket{{le="{slo.bound_seconds}"}}': good}


def cases(burn: Burn) -> list[Case]:
    """The alerts of that severity of all objectives, which all burn alike."""
    scraped: dict[str, str] = {}
    for slo in SLOS:
        events = _EVENTS
        if burn.bad_an_hour is not None:
            events = burn.bad_an_hour / _HOUR / (burn.parts[-1][1] * slo.budget)
        scraped |= series(slo, burn.parts, events)
    return [_case(slo, burn, scraped) for slo in SLOS]


def _case(slo: Slo, burn: Burn, scraped: Mapping[str, str]) -> Case:
    alert = next(alert for alert in slo_alerts(slo) if alert.severity == burn.severity)
    fires = [{}] if burn.fires else ()
    return Case(alert.name, burn.name, scraped, at=f"{burn.minutes}m", fires=fires, evaluated="5m")
