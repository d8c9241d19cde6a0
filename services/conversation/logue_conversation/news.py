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
        self._waiting: dict[str, asyncio.Event] = {}

    def hurry(self) -> None:
        """Somebody waits for what may be in the log."""
        self.awaited.set()

    def stored(self, conversation_ids: Iterable[str]) -> None:
        """Something was stored of these conversations."""
        for conversation_id in conversation_ids:
            if (waiting := self._waiting.pop(conversation_id, None)) is not None:
                waiting.set()

    async def wait_stored(self, conversation_id: str, seconds: float) -> None:
        """Returns when something was stored of the conversation, or after `seconds`: another process may store it."""
        waiting = self._waiting.setdefault(conversation_id, asyncio.Event())
        self.hurry()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(waiting.wait(), seconds)
        finally:
            if self._waiting.get(conversation_id) is waiting and not waiting.is_set():
                del self._waiting[conversation_id]  # whoever else waits looks again by its own time
