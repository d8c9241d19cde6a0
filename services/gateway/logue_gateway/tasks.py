"""Background tasks: they outlive what goes wrong inside them, and end when they are told."""

from __future__ import annotations

import asyncio

#: A library that swallows one cancellation gets another.
_AGAIN_SECONDS = 1.0


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancel `task` and wait until it is over, however it ends."""
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_SECONDS)
