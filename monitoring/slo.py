"""The objectives, and how fast their budgets may burn: the one definition of what docs/slo.md promises.

An objective counts events: over thirty days, this share of them must be good. "p95 < X" is such a share too: 95 % of
the events took X at most, read from the bucket whose bound is X.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from monitoring.promql import or_zero

Severity = Literal["page", "ticket"]

#: The chat route as the gateway labels it.
CHAT = 'method="POST",route="/api/{user_id}/chat"'
#: Problem codes of failed turns that are Logue's own doing. A failing model's are not among them.
OWN_CODES = ("internal_error", "turn_lost", "turn_expired", "context_unavailable")
MODEL_CODES = ("model_error", "model_timeout")

#: The window of the recorded rates; all longer windows are made of them.
BASE_WINDOW = "5m"
#: What budgets are counted over.
BUDGET_WINDOW = "30d"


@dataclass(frozen=True, slots=True)
class BurnRate:
    """Alert when the budget burns `factor` times as fast as it may, in the long window and still in the short one.

    The Google SRE workbook, chapter 5, table 5-8: 2 % of a month's budget in 1 h, 5 % in 6 h, 10 % in 1 d, 10 % in 3 d.
    """

    factor: float
    long: str
    short: str
    severity: Severity

    @property
    def long_seconds(self) -> int:
        """The long window."""
        return int(self.long[:-1]) * {"h": 3600, "d": 86400}[self.long[-1]]


BURN_RATES = (
    BurnRate(14.4, "1h", "5m", "page"),
    BurnRate(6, "6h", "30m", "page"),
    BurnRate(3, "1d", "2h", "ticket"),
    BurnRate(1, "3d", "6h", "ticket"),
)
#: Fewer bad events in the long window wake nobody: after a quiet hour one slow turn is all there is.
PAGE_EVENTS = 5
#: Every window that has a recorded ratio, from short to long.
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d", BUDGET_WINDOW)


@dataclass(frozen=True, slots=True)
class Slo:
    """One objective. `bad` and `all_events` are PromQL: events per second, one value each."""

    name: str
    #: In the names of its alerts.
    camel: str
    title: str
    promise: str
    #: What a burning budget means for users, as a sentence.
    means: str
    objective: float
    bad: str
    all_events: str
    #: Of a latency objective: its histogram and bound.
    metric: str = ""
    bound_seconds: float = 0.0

    @property
    def budget(self) -> float:
        """The share of events that may be bad."""
        return round(1 - self.objective, 6)

    @classmethod
    def within(cls, metric: str, bound_seconds: float, *, name: str, camel: str, title: str, means: str) -> Self:
        """95 % of the events of a histogram take at most so long. It must have a bucket with that bound."""
        every = f"sum(rate({metric}_count[{BASE_WINDOW}]))"
        good = f'sum(rate({metric}_bucket{{le="{float(bound_seconds)}"}}[{BASE_WINDOW}]))'
        return cls(
            name=name,
            camel=camel,
            title=title,
            promise=f"95 % within {bound_seconds:g} s",
            means=means,
            objective=0.95,
            bad=f"{every} - {good}",
            all_events=every,
            metric=metric,
            bound_seconds=bound_seconds,
        )


AVAILABILITY = Slo(
    name="turn-availability",
    camel="TurnAvailability",
    title="Turns available",
    promise="99.9 % neither refused nor failed by Logue",
    means="Messages are refused, or accepted turns fail, for reasons that are Logue's own.",
    objective=0.999,
    bad=or_zero(f'sum(rate(logue_gateway_requests_total{{{CHAT},status=~"500|503"}}[{BASE_WINDOW}]))')
    + "\n+ "
    + or_zero(
        f'sum(rate(logue_agent_turns_total{{status="failed",code=~"{"|".join(OWN_CODES)}"}}[{BASE_WINDOW}]))',
    ),
    all_events=f'sum(rate(logue_gateway_requests_total{{{CHAT},status!~"4.."}}[{BASE_WINDOW}]))',
)
FIRST_TOKEN = Slo.within(
    "logue_gateway_added_first_token_seconds",
    0.2,
    name="first-token",
    camel="FirstToken",
    title="First token, added by Logue",
    means="The first text of a reply comes late, beyond what the model takes.",
)
ACCEPTED = Slo.within(
    "logue_gateway_accept_seconds",
    0.1,
    name="turn-accepted",
    camel="TurnAccepted",
    title="Turn accepted",
    means="It takes long until a message is known to be in the log.",
)
RESUMES = Slo(
    name="resume-success",
    camel="ResumeSuccess",
    title="Streams resumed",
    promise="99.9 % reach their end, or end for the client's reasons",
    means="Clients that reconnect do not get the rest of their reply.",
    objective=0.999,
    bad=or_zero(f'sum(rate(logue_gateway_resumes_total{{result="failed"}}[{BASE_WINDOW}]))'),
    all_events=f"sum(rate(logue_gateway_resumes_total[{BASE_WINDOW}]))",
)
PERSISTENCE = Slo.within(
    "logue_conversation_persistence_delay_seconds",
    1.0,
    name="persistence-delay",
    camel="PersistenceDelay",
    title="Persistence delay",
    means="History lags behind the log: what was just written cannot be read yet.",
)

SLOS = (AVAILABILITY, FIRST_TOKEN, ACCEPTED, RESUMES, PERSISTENCE)
