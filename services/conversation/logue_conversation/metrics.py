"""Every metric of this service. Label values are bounded: never a user, turn or conversation id."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

# The writer
RECORDS = Counter("logue_conversation_records", "Records stored, by topic", ["topic"])
IGNORED = Counter(
    "logue_conversation_records_ignored",
    "Records that changed nothing, by reason: redelivered, late_outcome, deleted, other_conversation, unknown_type",
    ["reason"],
)
PERSISTENCE_DELAY_SECONDS = Histogram(
    "logue_conversation_persistence_delay_seconds",
    "From a record's timestamp (its producer's clock) to its transaction's commit",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300),
)
BATCH_RECORDS = Histogram(
    "logue_conversation_batch_records", "Records per transaction", buckets=(1, 2, 5, 10, 50, 100, 500, 1000, 2000)
)
BATCH_SECONDS = Histogram(
    "logue_conversation_batch_seconds",
    "Time of one transaction of the writer",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
STORE_RETRIES = Counter("logue_conversation_store_retries", "Batches tried again because the store was away")
LAST_STORED = Gauge("logue_conversation_last_batch_timestamp_seconds", "When the writer last stored something")
DEAD_LETTERS = Counter(
    "logue_conversation_dead_letters", "Records written to chat.dlq, by error class", ["error_class"]
)
ISOLATION = Counter(
    "logue_conversation_isolation_mismatches", "Records refused because their conversation is another user's"
)

# PostgreSQL, the outbox, and lost turns
POOL_CONNECTIONS = Gauge(
    "logue_conversation_pool_connections",
    "Connections to PostgreSQL, by pool and whether used or free",
    ["pool", "state"],
)
RELAYED = Counter("logue_conversation_outbox_relayed", "Outbox rows published", ["topic"])
TOLD = Counter("logue_conversation_changes_told", "Changes that the writer published past the outbox")
RELAY_FAILURES = Counter("logue_conversation_outbox_failures", "Outbox batches that must be tried again")
LOST_TURNS = Counter("logue_conversation_lost_turns", "Turns failed because the log no longer holds them")
RECONCILE_FAILURES = Counter("logue_conversation_reconcile_failures", "Searches for lost turns that failed")
BARRIER = Counter(
    "logue_conversation_barriers",
    "Waits for the writer before an id was called unknown: passed, behind, log_unavailable",
    ["result"],
)
