"""Between this process's writer and its readers: that somebody waits, and what was stored."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable


class News:
    """Readers wait for what is stored of a conversation; the writer waits less while somebody does."""

    def __init__(self) -> None:
        #: Set when somebody waits for what may be in the log; the writer clears it.
        self.awaited = asyncio.Event()
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def hurry(self) -> None:
        """Somebody waits for what may be in the log."""
        self.awaited.set()

    def stored(self, conversation_ids: Iterable[str]) -> None:
        """Something was stored of these conversations."""
        for conversation_id in conversation_ids:
            for waiting in self._waiting.get(conversation_id, ()):
                waiting.set()

    async def wait_stored(self, conversation_id: str, seconds: float) -> None:
        """Returns when something was stored of the conversation, or after `seconds`: another process may store it."""
        waiting = asyncio.Event()
        others = self._waiting.setdefault(conversation_id, set())
        others.add(waiting)
        self.hurry()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(waiting.wait(), seconds)
        finally:
            others.discard(waiting)
            if not others:
                self._waiting.pop(conversation_id, None)
