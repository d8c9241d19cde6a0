"""Every metric of the gateway. Label values are bounded: never a user, turn or conversation id."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("logue_gateway_requests", "HTTP requests answered", ["method", "route", "status"])
#: The buckets contain the objectives (12 ms, 30 ms, 200 ms) exactly.
FIRST_FRAME_SECONDS = Histogram(
    "logue_gateway_first_frame_seconds",
    "From the arrival of a chat request to its first frame",
    buckets=(0.005, 0.012, 0.03, 0.06, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
ADDED_SECONDS = Histogram(
    "logue_gateway_added_first_token_seconds",
    "From a chat request to its first text, less what the model took",
    buckets=(0.005, 0.012, 0.03, 0.06, 0.1, 0.15, 0.2, 0.5, 1, 2, 5, 10, 30),
)
TURNS_AHEAD = Gauge("logue_gateway_unanswered_turns", "Accepted turns without their first text")
SHED = Counter("logue_gateway_shed_turns", "New turns refused because the accepted ones already wait too long")
PUBLISHED = Counter("logue_gateway_published", "Events handed to Kafka", ["event", "result"])
CANCELS_GIVEN_UP = Counter("logue_gateway_cancels_given_up", "Cancels of unconfirmed turns dropped: the queue was full")
REFUSED_TOKENS = Counter("logue_gateway_refused_tokens", "Requests without a usable token", ["cause"])
OPEN_WAITERS = Gauge("logue_gateway_open_waiters", "Open streams and waiting requests", ["shape"])
CLOSED_STREAMS = Counter("logue_gateway_closed_streams", "Streams closed, by cause", ["cause"])
FRAMES = Counter("logue_gateway_frames", "Frames read, by reader and what became of them", ["reader", "result"])
REPLAY_PASSES = Counter("logue_gateway_replay_passes", "Times that the replay reader moved back in a partition")
STALLS = Counter("logue_gateway_stalls", "Times that a resuming client read slower than the log was replayed to it")
RESCANS = Counter("logue_gateway_rescans", "Resumes that had to start from an earlier point of the log", ["cause"])
STORE_CALLS = Counter("logue_gateway_store_calls", "Calls to the conversation service", ["route", "result"])
JWKS_FETCHES = Counter("logue_gateway_jwks_fetches", "Fetches of the key set", ["result"])
DEFECTS = Counter("logue_gateway_defects", "Unexpected errors that a background task survived", ["task"])
