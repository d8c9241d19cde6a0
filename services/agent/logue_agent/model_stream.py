"""Splits a server-sent event stream into the values of its data lines."""

from __future__ import annotations

from collections.abc import Iterator

#: A server that sends a longer line is broken, or means harm.
MAX_LINE_BYTES = 4 * 1024 * 1024


class LineTooLongError(Exception):
    """A line of the event stream grew beyond MAX_LINE_BYTES."""


class EventLines:
    """Feed it bytes as they arrive; it yields each complete data line once. Lines end in LF or CRLF."""

    def __init__(self) -> None:
        self._unfinished: list[bytes] = []  # joined once the line ends: a long line costs no more than its length
        self._unfinished_bytes = 0

    def feed(self, received: bytes) -> Iterator[bytes]:
        """The data lines that `received` completes. Raises LineTooLongError."""
        first, *others = received.split(b"\n")
        self._keep(first)
        for start in others:
            line = b"".join(self._unfinished)
            self._unfinished.clear()
            self._unfinished_bytes = 0
            if line.startswith(b"data:"):
                yield line[5:].strip()
            self._keep(start)

    def _keep(self, part: bytes) -> None:
        self._unfinished.append(part)
        self._unfinished_bytes += len(part)
        if self._unfinished_bytes > MAX_LINE_BYTES:
            raise LineTooLongError(f"a line of the event stream exceeds {MAX_LINE_BYTES} bytes")
