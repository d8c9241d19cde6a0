"""Requests that come when they are due, whether or not those before them were answered (an open loop)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator


async def arrivals(rate: float, seconds: float) -> AsyncIterator[float]:
    """When each of `rate` arrivals a second is due, of `time.perf_counter`: not before, and late only if we are."""
    began = time.perf_counter()
    for number in range(round(rate * seconds)):
        due = began + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        yield due
