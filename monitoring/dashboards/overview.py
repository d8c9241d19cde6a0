"""Overview and SLOs: is everything as promised, how much budget is left, what do people do."""

from __future__ import annotations

from monitoring.panels import Page, Query, Row, lines, number, rates, total
from monitoring.rules import BUDGET_LEFT, errors
from monitoring.slo import BASE_WINDOW, BURN_RATES, CHAT, SLOS, Slo

_FASTEST = max(rate.factor for rate in BURN_RATES)


def _good(slo: Slo) -> Query:
    return Query(f'1 - {errors(BASE_WINDOW)}{{slo="{slo.name}"}}', "good")


ROWS = (
    Row(
        "Budgets",
        *(
            number(
                slo.title,
                "percentunit",
                f"What is left of thirty days' error budget. Promised: {slo.promise}. {slo.means}",
                f'{BUDGET_LEFT}{{slo="{slo.name}"}}',
                red_below=0.0,
                orange_below=0.5,
                width=4,
            )
            for slo in SLOS
        ),
        number(
            "Alerts",
            "none",
            "Alerts of Logue that fire now.",
            'count(ALERTS{alertname=~"Logue.+",alertstate="firing"}) or vector(0)',
            red_above=1,
            width=4,
        ),
        lines(
            "Burn rate over 1 h",
            "none",
            "1 uses up the budget in exactly thirty days; from 14.4 on it pages. Runbooks: docs/runbooks.",
            Query(f"{errors('1h')} / (1 - logue:slo_objective:ratio)", "{{slo}}"),
            limit=_FASTEST,
            width=12,
        ),
        lines(
            "Burn rate over 6 h",
            "none",
            "The same over six hours; from 6 on it pages.",
            Query(f"{errors('6h')} / (1 - logue:slo_objective:ratio)", "{{slo}}"),
            limit=BURN_RATES[1].factor,
            width=12,
        ),
    ),
    Row(
        "Objectives",
        *(
            lines(
                slo.title,
                "percentunit",
                f"Share of good events over five minutes. Promised: {slo.promise}.",
                _good(slo),
                red_below=slo.objective,
                width=8,
            )
            for slo in SLOS
        ),
        lines(
            "Model failures",
            "percentunit",
            "Share of turns that fail at the model. It does not count against Logue, but people see it.",
            Query(
                '(sum(rate(logue_agent_turns_total{code=~"model_.+"}[$__rate_interval])) or vector(0))'
                " / sum(rate(logue_agent_turns_total[$__rate_interval]))",
                "failed",
            ),
            limit=0.05,
            width=8,
        ),
    ),
    Row(
        "Traffic",
        lines(
            "Messages",
            "reqps",
            "Answers to POST /api/{user_id}/chat by status. 503 is a refusal, 202 an answer that comes later.",
            rates(f"logue_gateway_requests_total{{{CHAT}}}", "status"),
            stacked=True,
            width=8,
        ),
        lines(
            "Outcomes",
            "ops",
            "Turns decided by the log, by status.",
            rates("logue_agent_turns_total", "status"),
            stacked=True,
            width=8,
        ),
        lines(
            "Open streams and waiting requests",
            "none",
            "Clients that hold a connection for a reply. A gateway takes 10,000.",
            Query("sum by (shape) (logue_gateway_open_waiters) or on () vector(0)", "{{shape}}"),
            stacked=True,
            width=8,
        ),
        lines(
            "Unanswered turns",
            "none",
            "Accepted turns without their first text.",
            Query("sum(logue_gateway_unanswered_turns)", "unanswered"),
            width=8,
        ),
        lines(
            "Refused as overload",
            "ops",
            "New turns refused with 503, so that the accepted ones keep their latency.",
            rates("logue_gateway_shed_turns_total"),
            width=8,
        ),
        lines(
            "Resumed streams",
            "ops",
            "Streams that were resumed, by how they ended. `failed` counts against the objective.",
            rates("logue_gateway_resumes_total", "result"),
            stacked=True,
            width=8,
        ),
    ),
    Row(
        "What must stay at zero, in the chosen time",
        number(
            "Isolation mismatches",
            "none",
            "Records and frames that named a user or conversation that does not fit. Each one pages.",
            " + ".join(
                total(counter)
                for counter in (
                    "logue_agent_isolation_mismatches_total",
                    "logue_conversation_isolation_mismatches_total",
                    'logue_gateway_frames_total{result="wrong_user"}',
                )
            ),
            red_above=1,
            width=6,
        ),
        number(
            "Lost turns",
            "none",
            "Accepted turns that the log no longer holds.",
            total("logue_conversation_lost_turns_total"),
            red_above=1,
            width=6,
        ),
        number(
            "Dead letters",
            "none",
            "Records sent to chat.dlq.",
            f"{total('logue_agent_dead_letters_total')} + {total('logue_conversation_dead_letters_total')}",
            red_above=1,
            width=6,
        ),
        number(
            "Instances down",
            "none",
            "Instances that Prometheus cannot ask now.",
            'count(up{job=~"logue-.+"} == 0) or vector(0)',
            red_above=1,
            width=6,
        ),
    ),
)

PAGE = Page(
    uid="logue-overview",
    title="Overview and SLOs",
    description="Is everything as promised? docs/slo.md says what is, docs/runbooks what to do.",
    rows=ROWS,
)
