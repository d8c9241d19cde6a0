"""When to send text that the model has produced."""

from __future__ import annotations

#: The longest that text may wait for company. 40 ms is below what a reader notices.
MAX_WAIT_SECONDS = 0.040


class Coalescer:
    """Collects text while an earlier frame is under way, so that nothing waits when there is time.

    The first piece, and every piece that finds no frame unacknowledged, goes at once. Otherwise text is gathered until
    the acknowledgement comes or the oldest piece has waited MAX_WAIT_SECONDS. Times are seconds, passed in.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._unacknowledged = 0
        self._due_at: float | None = None

    @property
    def due_at(self) -> float | None:
        """When the gathered text must go at the latest; None when nothing waits."""
        return self._due_at

    def add(self, piece: str, now: float) -> bool:
        """Take a piece in. True: send now."""
        self._pieces.append(piece)
        if self._due_at is None:
            self._due_at = now + MAX_WAIT_SECONDS
        return self._unacknowledged == 0 or now >= self._due_at

    def take(self) -> str:
        """The gathered text, which the caller sends as one frame. Empty when there is none."""
        text = "".join(self._pieces)
        self._pieces.clear()
        self._due_at = None
        return text

    def sent(self) -> None:
        """A frame went out."""
        self._unacknowledged += 1

    def acknowledged(self) -> bool:
        """A frame was acknowledged, or failed for good. True: send what was gathered now."""
        self._unacknowledged -= 1
        return bool(self._pieces) and self._unacknowledged == 0
