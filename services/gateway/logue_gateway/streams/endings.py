"""A turn that is over, as the conversation service tells it: what its end frame said, rebuilt."""

from __future__ import annotations

from dataclasses import dataclass

from logue_common import frames
from logue_common.errors import problem
from logue_common.internal import StoredTurn


@dataclass(frozen=True, slots=True)
class Ending:
    """Kind, data and number of a turn's end."""

    kind: str
    data: bytes
    attempt: int
    n: int


def ending_of(stored: StoredTurn) -> Ending:
    """The end of a stored turn that is over."""
    attempt, n = stored.attempt, stored.internal.n or 1
    if stored.status == "completed" and stored.message is not None:
        body = frames.completed_body(
            conversation_id=stored.conversation_id,
            turn_id=stored.turn_id,
            model=stored.internal.model,
            message=stored.message,
            usage=stored.usage,
        )
        return Ending(frames.COMPLETED, frames.sse_data(body), attempt, n)
    if stored.status == "cancelled":
        content = stored.message.content if stored.message else ""
        data = frames.sse_data({"turn_id": stored.turn_id, "content": content})
        return Ending(frames.CANCELLED, data, attempt, n)
    error = stored.error or problem("internal_error", "The turn failed and its cause was not recorded. Try again.")
    return Ending(frames.FAILED, frames.sse_data(frames.failed_body(stored.turn_id, error)), attempt, n)
