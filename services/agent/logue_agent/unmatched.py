"""Records about turns whose request has not been fetched yet: kept until it comes, and held back from commits."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from logue_common.events import AttemptStarted, ChatCancelRequested, ChatReplied

SideEvent = AttemptStarted | ChatCancelRequested | ChatReplied

#: A request is acknowledged before anything is said about it, so once chat.requested was read to its end, whatever is
#: still unmatched is about turns that were finished long ago. The grace covers a request that a broker still held.
GRACE_SECONDS = 60.0


@dataclass(slots=True)
class _Entry:
    read_at: float
    offsets: list[tuple[str, int]] = field(default_factory=list)
    events: list[SideEvent] = field(default_factory=list)


class Unmatched:
    """Side records by turn, oldest first. Times are monotonic seconds, passed in."""

    def __init__(self) -> None:
        self._by_turn: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        """Number of turns with unmatched records."""
        return len(self._by_turn)

    def add(self, turn_id: str, topic: str, offset: int, event: SideEvent, now: float) -> None:
        """Keep `event` for the turn's request."""
        entry = self._by_turn.setdefault(turn_id, _Entry(now))
        entry.offsets.append((topic, offset))
        entry.events.append(event)

    def take(self, turn_id: str) -> list[SideEvent]:
        """The records of a turn whose request has come, in the order in which they were read."""
        entry = self._by_turn.pop(turn_id, None)
        return [] if entry is None else entry.events

    def hold_back(self, positions: dict[str, int]) -> dict[str, int]:
        """`positions`, lowered to the earliest unmatched record of each topic."""
        held = dict(positions)
        for entry in self._by_turn.values():
            for topic, offset in entry.offsets:
                if offset < held.get(topic, 0):
                    held[topic] = offset
        return held

    def expire(self, caught_up_at: float) -> None:
        """Drop what was read more than the grace before chat.requested was last seen to its end."""
        while self._by_turn:
            turn_id, entry = next(iter(self._by_turn.items()))
            if entry.read_at + GRACE_SECONDS > caught_up_at:
                return
            del self._by_turn[turn_id]
