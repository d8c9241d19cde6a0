"""A turn in the hands of its owner."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from logue_common.events import ChatReplied, ChatRequested


class TurnState(Enum):
    """Where a turn stands with this owner."""

    WAITING = "waiting"  # behind others of its conversation
    RUNNING = "running"
    DECIDING = "deciding"  # an outcome is on its way to the log


@dataclass(eq=False, slots=True)
class Turn:
    """One accepted turn without an outcome yet. `attempt` changes only when another owner's is seen."""

    request: ChatRequested
    partition: int
    offset: int
    attempt: int
    state: TurnState = TurnState.WAITING
    cancel_requested: bool = False
    #: W3C's traceparent of the record: what caused this work.
    traceparent: bytes | None = field(default=None, repr=False)
    #: The attempt has its slot: its text may have been shown.
    begun: bool = False
    #: While it waits: its former owner finishes it until then.
    finishes_by: datetime | None = None
    #: Monotonic time at which this owner first looked at that.
    held_since: float | None = None
    #: Its partition is another owner's now, or will be: nothing of it begins here any more.
    lost: bool = False
    #: Another attempt at this turn is known to have begun.
    taken_over: bool = False
    #: Frames sent in this attempt so far.
    n: int = 0
    #: The outcome that this owner wrote, until it is read back from the log.
    proposed: ChatReplied | None = field(default=None, repr=False)
    #: Loop time of the latest proposal.
    proposed_at: float = 0.0

    @property
    def turn_id(self) -> str:
        """The turn's id, which is the correlation id."""
        return self.request.turn_id

    @property
    def conversation_id(self) -> str:
        """The lane."""
        return self.request.conversation_id

    def next_n(self) -> int:
        """The number of the next frame."""
        self.n += 1
        return self.n
