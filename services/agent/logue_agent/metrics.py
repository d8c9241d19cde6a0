"""Every metric of the agent."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

TURNS = Counter("logue_agent_turns_total", "Turns whose outcome the log decided here", ["status"])
RUNNING = Gauge("logue_agent_running_turns", "Turns that call the model now")
HELD = Gauge("logue_agent_held_turns", "Turns fetched and not decided")
PARTITIONS = Gauge("logue_agent_partitions", "Partitions owned")
ATTEMPTS = Counter("logue_agent_attempts_total", "Attempts started")
ABANDONED = Counter("logue_agent_abandoned_total", "Attempts abandoned because their partition or turn moved on")
FRAMES = Counter("logue_agent_frames_total", "Frames produced", ["kind"])
FRAMES_LOST = Counter("logue_agent_frames_lost_total", "Frames that no broker took; checkpoints heal the gap")
MODEL_RETRIES = Counter("logue_agent_model_retries_total", "Model calls repeated before the first token")
CONTEXT_FETCHES = Counter("logue_agent_context_fetches_total", "Contexts asked of the store", ["result"])
DEAD_LETTERS = Counter("logue_agent_dead_letters_total", "Records sent to chat.dlq", ["topic"])
ISOLATION = Counter(
    "logue_agent_isolation_mismatches_total", "Records that named a user or conversation that did not fit"
)
REPROPOSED = Counter(
    "logue_agent_outcomes_reproposed_total", "Outcomes written again because the log did not show them"
)
FIRST_TOKEN = Histogram(
    "logue_agent_first_token_seconds",
    "From the gateway's acceptance (its clock) to the model's first token",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
)
LOOP_DELAY = Histogram(
    "logue_agent_event_loop_delay_seconds",
    "One round of the event loop: what is ready waits so long for its turn",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
