"""The path of a turn through its conversation: what the model must have seen."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from tests.chaos.facts import Facts, Turn


def ran(turn: Turn) -> bool:
    """Whether the model was asked: only then was a context put together."""
    return turn.end is not None and (turn.end.message is not None or bool((turn.stored or {}).get("started_at")))


def path_of(facts: Facts, turn: Turn, question: dict[str, Any]) -> list[dict[str, Any]] | None:
    """From the root to the question; None if it leads nowhere."""
    messages = facts.lists.get((turn.ask.user, turn.conversation_id or ""), [])
    by_id = {message["id"]: message for message in messages}
    path, parent = [question], question["parent_id"]
    while parent is not None:
        if parent not in by_id or len(path) > len(messages):
            return None
        path.append(by_id[parent])
        parent = path[-1]["parent_id"]
    return path[::-1]


def digest(text: str) -> str:
    """As the demo model tells it."""
    return sha256(text.encode()).hexdigest()
