"""Every metric of the gateway. Label values are bounded: never a user, turn or conversation id."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

#: The bounds contain the objectives exactly: 12 ms and 30 ms (docs/bench), 100 ms and 200 ms (docs/slo.md).
_SECONDS = (0.005, 0.012, 0.03, 0.06, 0.1, 0.15, 0.2, 0.5, 1, 2, 5, 10, 30)

# Requests
REQUESTS = Counter("logue_gateway_requests", "HTTP requests answered", ["method", "route", "status"])
REFUSED_TOKENS = Counter("logue_gateway_refused_tokens", "Requests without a usable token", ["cause"])
ACCEPT_SECONDS = Histogram(
    "logue_gateway_accept_seconds", "From the arrival of a chat request to its turn's acknowledgement", buckets=_SECONDS
)
PUBLISH_SECONDS = Histogram(
    "logue_gateway_publish_seconds", "What Kafka took to acknowledge an accepted turn", buckets=_SECONDS
)
FIRST_TOKEN_SECONDS = Histogram(
    "logue_gateway_first_token_seconds", "From a chat request to its first text here", buckets=(*_SECONDS, 60)
)
ADDED_SECONDS = Histogram(
    "logue_gateway_added_first_token_seconds",
    "From a chat request to its first text, less what the model took",
    buckets=_SECONDS,
)
PUBLISHED = Counter("logue_gateway_published", "Events handed to Kafka", ["event", "result"])
CANCELS_GIVEN_UP = Counter("logue_gateway_cancels_given_up", "Cancels of unconfirmed turns dropped: the queue was full")
TURNS_AHEAD = Gauge("logue_gateway_unanswered_turns", "Accepted turns without their first text")
SHED = Counter("logue_gateway_shed_turns", "New turns refused because the accepted ones already wait too long")

# Streams
OPEN_WAITERS = Gauge("logue_gateway_open_waiters", "Open streams and waiting requests", ["shape"])
CLOSED_STREAMS = Counter("logue_gateway_closed_streams", "Streams closed, by cause", ["cause"])
STREAM_SECONDS = Histogram(
    "logue_gateway_stream_seconds",
    "How long an event stream was open",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
RESUMES = Counter(
    "logue_gateway_resumes",
    "Streams asked for again, by where they began (log, start, store) and what became of them: complete, ended (by the "
    "client, its token, or this process's end), failed",
    ["source", "result"],
)
FRAMES = Counter("logue_gateway_frames", "Frames read, by reader and what became of them", ["reader", "result"])
SUPERSEDED = Counter(
    "logue_gateway_superseded_frames", "Frames not shown: they came twice, or their attempt was superseded"
)
REPLAY_PASSES = Counter("logue_gateway_replay_passes", "Times that the replay reader moved back in a partition")
STALLS = Counter("logue_gateway_stalls", "Times that a resuming client read slower than the log was replayed to it")
RESCANS = Counter("logue_gateway_rescans", "Resumes that had to start from an earlier point of the log", ["cause"])

# Other services, and defects
STORE_CALLS = Counter("logue_gateway_store_calls", "Calls to the conversation service", ["route", "result"])
JWKS_FETCHES = Counter("logue_gateway_jwks_fetches", "Fetches of the key set", ["result"])
DEFECTS = Counter("logue_gateway_defects", "Unexpected errors that a background task survived", ["task"])
