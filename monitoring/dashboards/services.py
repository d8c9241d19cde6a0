"""Per service: processes, their resources, and what is particular to each service."""

from __future__ import annotations

from monitoring.alerts import JOBS
from monitoring.panels import Page, Query, Row, Variable, lines, number, rates

_OF = 'job=~"$job",instance=~"$instance"'
_EACH = "{{job}} {{instance}}"

ROWS = (
    Row(
        "Processes",
        number(
            "Answering",
            "none",
            "Instances that Prometheus can ask.",
            f"sum(up{{{_OF}}})",
            red_below=1,
            width=4,
        ),
        number(
            "Youngest process",
            "s",
            "Since the last start of any of them. Short and growing again and again: something crashes.",
            f"min(time() - process_start_time_seconds{{{_OF}}})",
            width=4,
        ),
        number(
            "Versions",
            "none",
            "How many versions run. Two are normal during a rollout only.",
            f"count(count by (version, revision) (logue_build_info{{{_OF}}}))",
            red_above=3,
            width=4,
        ),
        lines(
            "Build",
            "none",
            "Instances by version and revision.",
            Query(f"sum by (job, version, revision) (logue_build_info{{{_OF}}})", "{{job}} {{version}} {{revision}}"),
            width=12,
        ),
        lines(
            "CPU",
            "none",
            "Cores. One process uses one at most; at that line it is the limit.",
            Query(f"rate(process_cpu_seconds_total{{{_OF}}}[$__rate_interval])", _EACH),
            limit=1,
            width=8,
        ),
        lines(
            "Memory",
            "bytes",
            "Resident memory.",
            Query(f"process_resident_memory_bytes{{{_OF}}}", _EACH),
            width=8,
        ),
        lines(
            "Open files",
            "percentunit",
            "Of the limit. A stream is a file; a gateway closes connections near the limit.",
            Query(f"process_open_fds{{{_OF}}} / process_max_fds{{{_OF}}}", _EACH),
            limit=0.9,
            width=8,
        ),
        lines(
            "Event loop, p99 of a round",
            "s",
            "What is ready waits so long. From 0.1 s on it is a ticket.",
            Query(
                "histogram_quantile(0.99, sum by (job, instance, le) "
                f"(rate(logue_event_loop_delay_seconds_bucket{{{_OF}}}[$__rate_interval])))",
                _EACH,
            ),
            limit=0.1,
            width=8,
        ),
        lines("Tasks", "none", "Tasks of the event loop.", Query(f"logue_asyncio_tasks{{{_OF}}}", _EACH), width=8),
        lines(
            "Garbage collections",
            "ops",
            "By generation.",
            Query(
                f"sum by (job, generation) (rate(python_gc_collections_total{{{_OF}}}[$__rate_interval]))",
                "{{job}} {{generation}}",
            ),
            width=8,
        ),
    ),
    Row(
        "Gateway",
        lines(
            "Requests",
            "reqps",
            "By method, route and status.",
            rates("logue_gateway_requests_total", "method", "route", "status"),
            width=12,
        ),
        lines(
            "Closed streams",
            "ops",
            "By cause. `slow` and `stuck` are clients that do not read; they may resume.",
            rates("logue_gateway_closed_streams_total", "cause"),
            stacked=True,
            width=12,
        ),
        lines(
            "Resumes",
            "ops",
            "By where the missing part came from and how they ended.",
            rates("logue_gateway_resumes_total", "source", "result"),
            width=8,
        ),
        lines(
            "Calls of the conversation service",
            "ops",
            "By route and result.",
            rates("logue_gateway_store_calls_total", "route", "result"),
            width=8,
        ),
        lines(
            "Refused tokens and fetches of the key set",
            "ops",
            "By cause and result.",
            rates("logue_gateway_refused_tokens_total", "cause", legend="refused {{cause}}"),
            rates("logue_gateway_jwks_fetches_total", "result", legend="key set {{result}}"),
            width=8,
        ),
        lines(
            "Defects",
            "ops",
            "Unexpected errors that a background task survived, and cancels that were given up. Each is worth a look.",
            rates("logue_gateway_defects_total", "task", legend="defect {{task}}"),
            rates("logue_gateway_cancels_given_up_total", legend="cancels given up"),
            width=12,
        ),
        lines(
            "Open streams by gateway",
            "none",
            "Gateways are scaled by these: 4,000 each.",
            Query("sum by (instance) (logue_gateway_open_waiters)", "{{instance}}"),
            limit=10000,
            width=12,
        ),
    ),
    Row(
        "Agent",
        lines(
            "Turns decided",
            "ops",
            "By agent.",
            rates("logue_agent_turns_total", "instance"),
            stacked=True,
            width=12,
        ),
        lines(
            "Held turns by agent",
            "none",
            "Beyond 1,024 an agent fetches no further requests.",
            Query("sum by (instance) (logue_agent_held_turns)", "{{instance}}"),
            limit=1024,
            width=12,
        ),
    ),
    Row(
        "Conversation service",
        lines(
            "Database connections",
            "none",
            "By pool and state. An API pool without free ones makes requests wait.",
            Query("sum by (pool, state) (logue_conversation_pool_connections)", "{{pool}} {{state}}"),
            width=8,
        ),
        lines(
            "Lost turns and failed searches",
            "ops",
            "What the reconciler failed because the log no longer holds it, and searches that failed.",
            rates("logue_conversation_lost_turns_total", legend="lost turns"),
            rates("logue_conversation_reconcile_failures_total", legend="failed searches"),
            width=8,
        ),
        lines(
            "Records stored by instance",
            "ops",
            "Each instance writes what is in its partitions.",
            rates("logue_conversation_records_total", "instance"),
            stacked=True,
            width=8,
        ),
    ),
)

PAGE = Page(
    uid="logue-services",
    title="Per service",
    description="Processes, their resources, and what is particular to each service.",
    rows=ROWS,
    variables=(
        Variable("job", "Service", f'label_values(up{{job=~"{"|".join(JOBS)}"}}, job)'),
        Variable("instance", "Instance", 'label_values(up{job=~"$job"}, instance)'),
    ),
)
