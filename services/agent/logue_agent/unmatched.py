"""What was said about turns whose request may still come: kept until then, and held back from commits.

That is a record about a turn whose request has not been fetched yet, and the outcome of a keyed turn, since a retry of
it may lie in the log beyond the commit, where a new owner must still know that the turn is decided.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field

from logue_common.events import AttemptStarted, ChatCancelRequested, ChatReplied

SideEvent = AttemptStarted | ChatCancelRequested | ChatReplied

#: A request is acknowledged before anything is said about it, so once chat.requested was read to its end, whatever is
#: still here is about turns that were finished long ago. The grace covers retries that a client sends meanwhile.
GRACE_SECONDS = 120.0


@dataclass(slots=True)
class _Entry:
    read_at: float
    offsets: list[tuple[str, int]] = field(default_factory=list)
    events: list[SideEvent] = field(default_factory=list)


class Unmatched:
    """Side records by turn, oldest first. Times are monotonic seconds, passed in."""

    def __init__(self) -> None:
        self._by_turn: OrderedDict[str, _Entry] = OrderedDict()
        # By topic, in the order of their offsets, so that the first one is the earliest.
        self._held: defaultdict[str, OrderedDict[int, None]] = defaultdict(OrderedDict)

    def __len__(self) -> int:
        """Number of turns with records here."""
        return len(self._by_turn)

    def add(self, turn_id: str, topic: str, offset: int, event: SideEvent, now: float) -> None:
        """Keep `event` for the turn's request."""
        entry = self._by_turn.setdefault(turn_id, _Entry(now))
        entry.offsets.append((topic, offset))
        entry.events.append(event)
        self._held[topic][offset] = None

    def of(self, turn_id: str) -> list[SideEvent]:
        """The records about a turn, in the order in which they were read."""
        entry = self._by_turn.get(turn_id)
        return [] if entry is None else entry.events

    def drop(self, turn_id: str) -> None:
        """The turn's request has come, and will not come again."""
        entry = self._by_turn.pop(turn_id, None)
        if entry is not None:
            for topic, offset in entry.offsets:
                self._held[topic].pop(offset, None)

    def hold_back(self, positions: dict[str, int]) -> dict[str, int]:
        """`positions`, lowered to the earliest record of each topic that is still here."""
        return {topic: min(offset, next(iter(self._held[topic]), offset)) for topic, offset in positions.items()}

    def expire(self, caught_up_at: float) -> None:
        """Drop what was read more than the grace before chat.requested was last seen to its end."""
        while self._by_turn:
            turn_id, entry = next(iter(self._by_turn.items()))
            if entry.read_at + GRACE_SECONDS > caught_up_at:
                return
            self.drop(turn_id)
