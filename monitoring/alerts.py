"""What an on-call must know beside burning budgets: what no objective sees, and causes worth a look in daylight.

Symptoms page, causes are tickets. Annotations hold no measured values, so that tests can compare them; the runbook has
the queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from monitoring.promql import events, or_zero
from monitoring.slo import CHAT, MODEL_CODES, Severity

SERVICES = ("gateway", "agent", "conversation")
JOBS = tuple(f"logue-{service}" for service in SERVICES)

#: A service commits every 10 s (COMMIT_ANYWAY_SECONDS); one that could not for 25 s connects anew.
_COMMIT_AGE_SECONDS = 20
#: About what an agent holds at most; on Kubernetes they are scaled at 128.
_LAG_RECORDS = 1000
_STORE_SECONDS = 60
_LOOP_DELAY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule. `runbook` is the name of a page in docs/runbooks."""

    name: str
    severity: Severity
    expr: str
    runbook: str
    summary: str
    description: str
    wait: str = "0s"
    labels: Mapping[str, str] = field(default_factory=dict)


def _service_down(job: str) -> Alert:
    return Alert(
        "LogueServiceDown",
        "page",
        or_zero(f'sum(up{{job="{job}"}})') + " == 0",
        runbook="service-down",
        summary=f"No instance of {job} answers.",
        description="Without gateways nobody can connect; without agents turns are accepted and wait; without "
        "conversation services nothing is stored and history answers 503.",
        wait="1m",
        labels={"job": job},
    )


_ISOLATION = " + ".join(
    or_zero(f"sum({events(selector, '15m')})")
    for selector in (
        "logue_agent_isolation_mismatches_total",
        "logue_conversation_isolation_mismatches_total",
        'logue_gateway_frames_total{result="wrong_user"}',
    )
)

ALERTS = (
    *(_service_down(job) for job in JOBS),
    Alert(
        "LogueTurnsUnanswered",
        "page",
        "sum(logue_gateway_unanswered_turns) > 0\n"
        "and on ()\nsum(increase(logue_gateway_accept_seconds_count[3m])) > 0\n"
        "and on ()\n" + or_zero("sum(rate(logue_agent_turns_total[3m]))") + " == 0",
        runbook="turns-unanswered",
        summary="Turns wait for their first text, and none is decided.",
        description="Gateways accepted turns in the last minutes, but no agent brought any to its end.",
        wait="2m",
    ),
    Alert(
        "LogueIsolationMismatch",
        "page",
        f"{_ISOLATION} > 0",
        runbook="isolation-mismatch",
        summary="A record or frame named a user or conversation that does not fit.",
        description="It was refused and shown to nobody. Something writes what it must not: a defect, or an intruder.",
    ),
    Alert(
        "LogueTurnsLost",
        "page",
        "sum(increase(logue_conversation_lost_turns_total[1h])) > 0",
        runbook="turns-lost",
        summary="Accepted turns are not in the log any more.",
        description="The reconciler failed them as turn_lost. Brokers lost what they acknowledged, or turns waited "
        "longer than the log is kept.",
    ),
    Alert(
        "LogueWriterStoresNothing",
        "page",
        f"time() - max(logue_conversation_last_batch_timestamp_seconds) > {_STORE_SECONDS}",
        runbook="writer-stores-nothing",
        summary="No conversation service has stored anything for a minute.",
        description="A writer stores its positions every second even without traffic, so PostgreSQL or Kafka is away "
        "for all of them. Replies go on from log and caches; history stands still.",
        wait="1m",
    ),
    Alert(
        "LogueInstanceDown",
        "ticket",
        f'up{{job=~"{"|".join(JOBS)}"}} == 0',
        runbook="service-down",
        summary="{{ $labels.job }} at {{ $labels.instance }} does not answer.",
        description="Others of its kind carry its load, if there are any.",
        wait="5m",
    ),
    Alert(
        "LogueConsumerLagGrows",
        "ticket",
        f"sum by (job, instance) (logue_consumer_lag_records) > {_LAG_RECORDS}\nand\n"
        "sum by (job, instance) (logue_consumer_lag_records)\n"
        "> sum by (job, instance) (logue_consumer_lag_records offset 10m)",
        runbook="consumer-lag",
        summary="{{ $labels.job }} at {{ $labels.instance }} falls behind the log.",
        description="More records wait than ten minutes ago: too few instances, or something holds this one up.",
        wait="5m",
    ),
    Alert(
        "LogueCommitAge",
        "ticket",
        # The age begins anew with each connection, so its peaks count. Who owns no partition has no need to commit.
        f"max by (job, instance) (max_over_time(logue_commit_age_seconds[2m])) > {_COMMIT_AGE_SECONDS}\n"
        "and on (job, instance)\nlogue_consumer_lag_records",
        runbook="commit-age",
        summary="{{ $labels.job }} at {{ $labels.instance }} cannot commit.",
        description="Its group takes no offsets. Work goes on; whoever takes over reads much of the log again.",
        wait="5m",
    ),
    Alert(
        "LogueDeadLetters",
        "ticket",
        " or ".join(
            f"sum by (job) ({events(f'logue_{service}_dead_letters_total', '15m')}) > 0"
            for service in ("agent", "conversation")
        ),
        runbook="dead-letters",
        summary="{{ $labels.job }} sent records to chat.dlq.",
        description="They cannot be read, or the store refuses them. Neighbours are not held up.",
    ),
    Alert(
        "LogueDeadLettersWaiting",
        "ticket",
        "sum by (job) (logue_dead_letters_waiting) > 0",
        runbook="dead-letters",
        summary="{{ $labels.job }} cannot write chat.dlq.",
        description="Records wait in memory, 1,000 at most in each process.",
        wait="5m",
    ),
    Alert(
        "LogueDeadLettersDropped",
        "page",
        "sum by (job) (increase(logue_dead_letters_dropped_total[15m])) > 0",
        runbook="dead-letters",
        summary="{{ $labels.job }} had no room for more dead letters.",
        description="Such records are only where they were, until their topic forgets them; the log names them.",
    ),
    Alert(
        "LogueEventLoopSlow",
        "ticket",
        "sum by (job, instance) (rate(logue_event_loop_delay_seconds_count[5m]))\n"
        f'- sum by (job, instance) (rate(logue_event_loop_delay_seconds_bucket{{le="{_LOOP_DELAY_SECONDS}"}}[5m]))\n'
        "> 0.01 * sum by (job, instance) (rate(logue_event_loop_delay_seconds_count[5m]))",
        runbook="event-loop",
        summary="{{ $labels.job }} at {{ $labels.instance }} is busy with itself.",
        description="More than 1 % of the event loop's rounds take over 100 ms: everything in this process is late.",
        wait="10m",
    ),
    Alert(
        "LogueOverloaded",
        "ticket",
        f"sum(rate(logue_gateway_shed_turns_total[5m])) / sum(rate(logue_gateway_requests_total{{{CHAT}}}[5m])) > 0.01",
        runbook="overloaded",
        summary="More than 1 % of the messages are refused as overload.",
        description="Gateways refuse new turns so that the accepted ones keep their latency. Capacity is missing.",
        wait="5m",
    ),
    Alert(
        "LogueOutboxFails",
        "ticket",
        "sum(increase(logue_conversation_outbox_failures_total[5m])) > 0",
        runbook="background-work",
        summary="Changes of conversations cannot be published.",
        description="The outbox relay fails for ten minutes: other tabs and devices are not told, and the turns of "
        "deleted conversations are not stopped.",
        wait="10m",
    ),
    Alert(
        "LogueReconcilerFails",
        "ticket",
        "sum(increase(logue_conversation_reconcile_failures_total[5m])) > 0",
        runbook="background-work",
        summary="Lost turns cannot be looked for.",
        description="The reconciler fails for ten minutes: a turn that the log lost would stay without an outcome.",
        wait="10m",
    ),
    Alert(
        "LogueGatewayDefects",
        "ticket",
        f"sum by (job) ({events('logue_gateway_defects_total', '15m')}) > 0",
        runbook="background-work",
        summary="A background task of a gateway met an error that it does not know.",
        description="It survived and goes on; the log has the traceback.",
    ),
    Alert(
        "LogueModelFails",
        "ticket",
        f'sum(rate(logue_agent_turns_total{{status="failed",code=~"{"|".join(MODEL_CODES)}"}}[10m]))\n'
        "/ sum(rate(logue_agent_turns_total[10m])) > 0.05",
        runbook="model-failures",
        summary="More than 5 % of the turns fail at the model.",
        description="The model server refuses, breaks off or does not answer. It does not count against Logue.",
        wait="5m",
    ),
    Alert(
        "LogueTokensRefused",
        "ticket",
        'sum(rate(logue_gateway_requests_total{status="401"}[5m])) / sum(rate(logue_gateway_requests_total[5m])) > 0.5',
        runbook="tokens-refused",
        summary="Most requests have no usable token.",
        description="Keys changed, the key set cannot be fetched, clocks differ, or somebody tries. No objective "
        "counts a 401.",
        wait="10m",
    ),
)
