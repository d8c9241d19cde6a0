"""Every metric of this service."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RECORDS = Counter("logue_conversation_records_total", "Records stored, by topic", ["topic"])
IGNORED = Counter(
    "logue_conversation_records_ignored_total",
    "Records that changed nothing, by reason: redelivered, late_outcome, deleted, other_conversation, unknown_type",
    ["reason"],
)
DEAD_LETTERS = Counter(
    "logue_conversation_dead_letters_total", "Records written to chat.dlq, by error class", ["error_class"]
)
ISOLATION = Counter(
    "logue_conversation_isolation_total", "Records refused because their conversation is another user's"
)
BATCH_RECORDS = Histogram(
    "logue_conversation_batch_records", "Records per transaction", buckets=(1, 2, 5, 10, 50, 100, 500, 1000, 2000)
)
BATCH_SECONDS = Histogram(
    "logue_conversation_batch_seconds",
    "Time of one transaction of the writer",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
STORE_RETRIES = Counter("logue_conversation_store_retries_total", "Batches tried again because the store was away")
LAST_STORED = Gauge("logue_conversation_last_batch_timestamp_seconds", "When the writer last stored something")
RELAYED = Counter("logue_conversation_outbox_relayed_total", "Outbox rows published", ["topic"])
RELAY_FAILURES = Counter("logue_conversation_outbox_failures_total", "Outbox batches that must be tried again")
LOST_TURNS = Counter("logue_conversation_lost_turns_total", "Turns failed because the log no longer holds them")
RECONCILE_FAILURES = Counter("logue_conversation_reconcile_failures_total", "Searches for lost turns that failed")
BARRIER = Counter(
    "logue_conversation_barriers_total",
    "Waits for the writer before an id was called unknown: passed, behind, log_unavailable",
    ["result"],
)
