"""Fairness: one user's calls that take long leave room for everybody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from logue_common.errors import ProblemError


class Shares:
    """At most `size` calls of one user at once; those beyond it wait for `wait_seconds` at most."""

    def __init__(self, size: int, wait_seconds: float) -> None:
        self._size = size
        self._wait_seconds = wait_seconds
        # A user's entry goes when the last of its calls has ended.
        self._of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, user_id: str) -> AsyncIterator[None]:
        """A place for one call. Raises ProblemError `rate_limited` when none becomes free in time."""
        share = self._of.get(user_id)
        if share is None:
            share = self._of[user_id] = asyncio.Semaphore(self._size)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await share.acquire()
        except TimeoutError:
            detail = "Too many of your requests are under way. Send this one again when some are answered."
            raise ProblemError("rate_limited", detail) from None
        try:
            yield
        finally:
            share.release()
