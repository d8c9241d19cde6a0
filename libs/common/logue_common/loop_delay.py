"""How long the event loop takes to come round: what this process itself adds to everything that it waits for."""

from __future__ import annotations

import asyncio
import time

from logue_common import metrics

_EVERY_SECONDS = 0.05
#: Weight of the newest round: the last quarter of a second counts.
_WEIGHT = 0.3


class LoopDelay:
    """Measures the loop that it is started in, twenty times a second."""

    def __init__(self) -> None:
        #: Seconds that a round takes, of late.
        self.seconds = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self.run(), name="loop-delay")

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            began = time.monotonic()
            await asyncio.sleep(0)
            took = time.monotonic() - began
            metrics.LOOP_DELAY.observe(took)
            self.seconds += _WEIGHT * (took - self.seconds)
