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
        self._rest = b""

    def feed(self, received: bytes) -> Iterator[bytes]:
        """The data lines that `received` completes. Raises LineTooLongError."""
        *lines, self._rest = (self._rest + received).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise LineTooLongError(f"a line of the event stream exceeds {MAX_LINE_BYTES} bytes")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
