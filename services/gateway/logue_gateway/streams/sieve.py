"""Which frames a client must see. Pure.

Frames may come twice, late, from an attempt that was superseded, or not at all. Whatever comes, the text that a client
assembles from what the sieve lets through is the outcome's text once the end was let through.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from logue_common.frames import (
    CANCELLED,
    CHECKPOINT,
    COMPLETED,
    DELTA,
    RESET,
    SNAPSHOT,
    FrameHeader,
    snapshot_data,
    sse_data,
)


class Shown(NamedTuple):
    """One event for the client.

    `attempt` and `n` go into its id. `covers` is False for an event that the sieve adds before a frame: its id must
    not claim that the frame itself was seen.
    """

    kind: str
    data: bytes
    attempt: int
    n: int
    covers: bool = True


_NOTHING: tuple[Shown, ...] = ()
#: The checkpoint of a turn whose model is slow to begin.
_NO_TEXT = snapshot_data("")
#: Kinds after which the text is known, whatever was missed before.
_HEALING = frozenset({CHECKPOINT, SNAPSHOT, RESET})


def end_content(kind: str, data: bytes) -> str | None:
    """The full text that an end frame carries; None when it carries none (turn.failed)."""
    if kind == COMPLETED:
        return str(orjson.loads(data)["message"]["content"])
    if kind == CANCELLED:
        return str(orjson.loads(data)["content"])
    return None


class Sieve:
    """The state of one client stream: everything up to (`attempt`, `n`) was seen."""

    __slots__ = ("attempt", "gapped", "n", "over", "shows_text", "superseded")

    def __init__(self, attempt: int = 0, n: int = 0, *, shows_text: bool = False) -> None:
        self.attempt = attempt
        self.n = n
        #: The client may hold text that a newer attempt must take back.
        self.shows_text = shows_text
        #: The last frame did not fit: something is missing before it.
        self.gapped = False
        self.over = False
        #: Frames that came twice, or of an attempt that is not the latest.
        self.superseded = 0

    def feed(self, header: FrameHeader, value: bytes) -> tuple[Shown, ...]:
        """What the client must see because of this frame, in order."""
        if self.over:
            return _NOTHING
        if header.is_end:
            return self.end(header.kind, value, header.attempt, header.n)
        attempt, n, kind = header.attempt, header.n, header.kind
        newer = attempt > self.attempt
        if not newer and (attempt < self.attempt or n <= self.n):
            self.superseded += 1
            return _NOTHING
        fits = n == 1 if newer else n == self.n + 1
        if not fits and kind not in _HEALING:
            self.gapped = True
            return _NOTHING
        before = (self.attempt, self.n)
        self.attempt, self.n, self.gapped = attempt, n, False
        if kind == DELTA and not newer:
            self.shows_text = True
            return (Shown(kind, value, attempt, n),)
        return self._special(kind, value, newer=newer, fits=fits, before=before)

    def end(self, kind: str, value: bytes, attempt: int, n: int) -> tuple[Shown, ...]:
        """What the client must see because the turn is over: (`attempt`, `n`) number the end.

        An end that does not follow what was seen brings the whole text with it.
        """
        follows = attempt == self.attempt and n == self.n + 1
        self.over = True
        end = Shown(kind, value, attempt, n)
        if follows or (content := end_content(kind, value)) is None or not (content or self.shows_text):
            return (end,)
        return (Shown(SNAPSHOT, snapshot_data(content), attempt, n - 1, covers=False), end)

    def _special(
        self, kind: str, value: bytes, *, newer: bool, fits: bool, before: tuple[int, int]
    ) -> tuple[Shown, ...]:
        """A frame that is accepted, and is not simply the next delta."""
        if kind == CHECKPOINT and fits and (not newer or (value == _NO_TEXT and not self.shows_text)):
            return _NOTHING
        if kind in (CHECKPOINT, SNAPSHOT):
            self.shows_text = True
            return (Shown(SNAPSHOT, value, self.attempt, self.n),)
        if kind == RESET:
            had_text, self.shows_text = self.shows_text, False
            return (Shown(kind, value, self.attempt, self.n),) if had_text else _NOTHING
        frame = Shown(kind, value, self.attempt, self.n)
        had_text = newer and self.shows_text
        self.shows_text = kind == DELTA or (self.shows_text and not newer)
        if not had_text:
            return (frame,)
        reset = sse_data({"attempt": self.attempt, "reason": "superseded"})
        return (Shown(RESET, reset, *before, covers=False), frame)
