"""Latency of a turn, by stage: where the time goes, from the request to the stored reply."""

from __future__ import annotations

from monitoring.panels import Page, Query, Row, lines, p95, quantiles
from monitoring.slo import ACCEPTED, FIRST_TOKEN, PERSISTENCE

ROWS = (
    Row(
        "All stages",
        lines(
            "p95 by stage",
            "s",
            "Nineteen of twenty turns take less, stage by stage. A stage that rose when the whole rose is the cause.",
            Query(p95("logue_gateway_accept_seconds"), "accepted"),
            Query(p95("logue_agent_queue_wait_seconds"), "waits at the agent"),
            Query(p95("logue_agent_model_first_token_seconds"), "model, first token"),
            Query(p95("logue_gateway_added_first_token_seconds"), "first token, added by Logue"),
            Query(p95("logue_gateway_first_token_seconds"), "first token, all"),
            Query(p95("logue_conversation_persistence_delay_seconds"), "until stored"),
            width=24,
        ),
    ),
    Row(
        "Until the first token",
        lines(
            "First token, added by Logue",
            "s",
            "From a chat request to its first text, less what the model took. Promised: p95 below the line.",
            *quantiles("logue_gateway_added_first_token_seconds", exemplars=True),
            limit=FIRST_TOKEN.bound_seconds,
            width=12,
        ),
        lines(
            "First token, as people see it",
            "s",
            "From a chat request to its first text, with the model.",
            *quantiles("logue_gateway_first_token_seconds", exemplars=True),
            width=12,
        ),
        lines(
            "1. Accepted",
            "s",
            "From a new chat request until the broker has it: lookups and the acknowledgement. Promised: p95 below the "
            "line.",
            *quantiles("logue_gateway_accept_seconds", exemplars=True),
            limit=ACCEPTED.bound_seconds,
            width=8,
        ),
        lines(
            "1b. Of it the broker",
            "s",
            "The acknowledgement alone: batching, network, replication.",
            *quantiles("logue_gateway_publish_seconds"),
            width=8,
        ),
        lines(
            "2. Waits at the agent",
            "s",
            "From acceptance to the start of the attempt: the log, the lane's earlier turns, a free place.",
            *quantiles("logue_agent_queue_wait_seconds", exemplars=True),
            width=8,
        ),
        lines(
            "3. The model's first token, p95",
            "s",
            "From the call to the first token, by model.",
            Query(p95("logue_agent_model_first_token_seconds", "model"), "{{model}}", exemplars=True),
            width=8,
        ),
        lines(
            "2 + 3. From acceptance to the model's first token",
            "s",
            "What the agent sees of the turn; clocks of two machines are compared.",
            *quantiles("logue_agent_first_token_seconds", exemplars=True),
            width=8,
        ),
        lines(
            "Event loops, p99 of a round",
            "s",
            "A service with long rounds is late with everything. From 0.1 s on it is a ticket.",
            Query(
                "histogram_quantile(0.99, sum by (job, le) "
                "(rate(logue_event_loop_delay_seconds_bucket[$__rate_interval])))",
                "{{job}}",
            ),
            limit=0.1,
            width=8,
        ),
    ),
    Row(
        "Until the end",
        lines(
            "4. The whole reply of the model, p95",
            "s",
            "From the call to its end, by model.",
            Query(p95("logue_agent_model_seconds", "model"), "{{model}}", exemplars=True),
            width=8,
        ),
        lines(
            "5. Turn, from acceptance to outcome, p95",
            "s",
            "By status; all stages together.",
            Query(p95("logue_agent_turn_seconds", "status"), "{{status}}", exemplars=True),
            width=8,
        ),
        lines(
            "6. Stored",
            "s",
            "From a record's time stamp to its commit in PostgreSQL. Promised: p95 below the line.",
            *quantiles("logue_conversation_persistence_delay_seconds", exemplars=True),
            limit=PERSISTENCE.bound_seconds,
            width=8,
        ),
        lines(
            "6b. Of it the transaction",
            "s",
            "One batch of the writer.",
            *quantiles("logue_conversation_batch_seconds"),
            width=12,
        ),
        lines(
            "Streams are open for",
            "s",
            "How long event streams stay, until their end or the client's.",
            *quantiles("logue_gateway_stream_seconds"),
            width=12,
        ),
    ),
)

PAGE = Page(
    uid="logue-latency",
    title="Latency of a turn, by stage",
    description="Numbers are in the order of a turn's life. Points are exemplars: turns with a trace.",
    rows=ROWS,
)
