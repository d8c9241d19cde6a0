"""Every metric of the agent. Label values are bounded: never a user, turn or conversation id."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from logue_agent.bounded_label import BoundedLabel

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_LONG_SECONDS = (*_SECONDS, 120, 300, 600, 3600)

# Turns
TURNS = Counter(
    "logue_agent_turns",
    "Turns whose outcome the log decided here; code: the problem of a failed one",
    ["status", "code"],
)
TURN_SECONDS = Histogram(
    "logue_agent_turn_seconds",
    "From the gateway's acceptance (its clock) to the outcome",
    ["status"],
    buckets=_LONG_SECONDS,
)
QUEUE_WAIT_SECONDS = Histogram(
    "logue_agent_queue_wait_seconds",
    "From the gateway's acceptance (its clock) to the start of an attempt: Kafka, the lane, the context, a free slot",
    buckets=_LONG_SECONDS,
)
FIRST_TOKEN_SECONDS = Histogram(
    "logue_agent_first_token_seconds",
    "From the gateway's acceptance (its clock) to the model's first token",
    buckets=_SECONDS,
)
RUNNING = Gauge("logue_agent_running_turns", "Turns that call the model now")
HELD = Gauge("logue_agent_held_turns", "Turns fetched and not decided")
OLDEST_TURN = Gauge("logue_agent_oldest_turn_seconds", "Age of the oldest turn fetched and not decided")
LANES = Gauge("logue_agent_lanes", "Conversations with a turn fetched and not decided")
LANE_DEPTH = Gauge("logue_agent_lane_depth_max", "Turns of the conversation that has most of them here")
PARTITIONS = Gauge("logue_agent_partitions", "Partitions owned")
ATTEMPTS = Counter("logue_agent_attempts", "Attempts started")
ABANDONED = Counter("logue_agent_abandoned", "Attempts abandoned because their partition or turn moved on")
REPROPOSED = Counter("logue_agent_outcomes_reproposed", "Outcomes written again because the log did not show them")
REPEATED = Counter("logue_agent_repeated_requests", "Requests for turns that were known already")

# The model
MODEL_FIRST_TOKEN_SECONDS = Histogram(
    "logue_agent_model_first_token_seconds", "From a call of the model to its first token", ["model"], buckets=_SECONDS
)
MODEL_SECONDS = Histogram(
    "logue_agent_model_seconds", "A call of the model, retries included", ["model"], buckets=_LONG_SECONDS[:-1]
)
MODEL_RETRIES = Counter("logue_agent_model_retries", "Model calls repeated before the first token")
MODEL_ERRORS = Counter("logue_agent_model_errors", "Calls of the model without a whole reply", ["model", "code"])
TOKENS = Counter(
    "logue_agent_tokens", "Tokens as the model server counted them, by kind: prompt, completion", ["model", "kind"]
)
#: Clients choose models, and servers report names of their own.
MODELS = BoundedLabel()

# Frames, and the rest
FRAMES = Counter("logue_agent_frames", "Frames produced", ["kind"])
FRAMES_LOST = Counter("logue_agent_frames_lost", "Frames that no broker took; checkpoints heal the gap")
CONTEXT_FETCHES = Counter("logue_agent_context_fetches", "Contexts asked of the store", ["result"])
DEAD_LETTERS = Counter("logue_agent_dead_letters", "Records sent to chat.dlq", ["topic"])
ISOLATION = Counter("logue_agent_isolation_mismatches", "Records that named a user or conversation that did not fit")
