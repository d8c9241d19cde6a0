"""The metrics that every service has. Those of its own are in the service's metrics.py; docs/metrics.md lists all.

Units are in the names (seconds, records, …); label values are bounded: never a user, turn or conversation id.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, Info

BUILD = Info("logue_build", "What runs here: version of the package, revision of the source (LOGUE_REVISION)")
TASKS = Gauge("logue_asyncio_tasks", "Tasks of the event loop that have not ended")
LOOP_DELAY = Histogram(
    "logue_event_loop_delay_seconds",
    "One round of the event loop: what is ready waits so long for its turn",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
CONSUMER_LAG = Gauge(
    "logue_consumer_lag_records",
    "Records of an owned partition that are not done yet, as far as the last fetch showed its end",
    ["topic", "partition"],
)
COMMIT_AGE = Gauge("logue_commit_age_seconds", "Since the group last took a commit of this member, or took it in")
DEAD_LETTERS_WAITING = Gauge("logue_dead_letters_waiting", "Records that wait until chat.dlq can be written")
DEAD_LETTERS_DROPPED = Counter(
    "logue_dead_letters_dropped", "Records for which there was no room: the log names their places"
)
