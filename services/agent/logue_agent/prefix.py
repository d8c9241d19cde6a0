"""Which offset of chat.requested may be committed: the end of the contiguous finished prefix."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

#: Next offset to read, by topic, of the three topics beside chat.requested.
Positions = dict[str, int]


@dataclass(slots=True)
class _Entry:
    offset: int
    positions: Positions
    finished: bool = False


class FinishedPrefix:
    """Tracks the records of one partition from fetch to finish.

    With each record it keeps the positions of the side topics noted when it was first fetched: a new owner that starts
    from the commit reads everything that was ever said about the records from there on.
    """

    def __init__(self, next_offset: int) -> None:
        self._next_offset = next_offset
        self._entries: deque[_Entry] = deque()
        self._by_offset: dict[int, _Entry] = {}

    @property
    def next_offset(self) -> int:
        """The offset after the last fetched record."""
        return self._next_offset

    def __len__(self) -> int:
        """Number of records at or after the commit point, finished ones included."""
        return len(self._entries)

    def fetched(self, offset: int, positions: Positions) -> bool:
        """Note a record as unfinished. False when it was fetched before: then nothing changes."""
        if offset < self._next_offset:
            return False
        entry = _Entry(offset, positions)
        self._entries.append(entry)
        self._by_offset[offset] = entry
        self._next_offset = offset + 1
        return True

    def finish(self, offset: int) -> None:
        """Mark a fetched record as finished; unknown and already finished ones are ignored."""
        entry = self._by_offset.get(offset)
        if entry is not None:
            entry.finished = True

    def commit_point(self, positions: Positions) -> tuple[int, Positions]:
        """The offset up to which everything is finished, and the side positions that belong to it.

        `positions` are the current ones, used when no record is open.
        """
        while self._entries and self._entries[0].finished:
            del self._by_offset[self._entries.popleft().offset]
        if self._entries:
            return self._entries[0].offset, self._entries[0].positions
        return self._next_offset, positions
