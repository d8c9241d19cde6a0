"""How long the event loop takes to come round: what this process itself adds to everything that it waits for."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import Histogram

_DELAY = Histogram(
    "logue_event_loop_delay_seconds",
    "One round of the event loop: what is ready waits so long for its turn",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
_EVERY_SECONDS = 0.05
#: Weight of the newest round: the last quarter of a second counts.
_WEIGHT = 0.3


class LoopDelay:
    """Measures the loop that `run` runs in, twenty times a second."""

    def __init__(self) -> None:
        #: Seconds that a round takes, of late.
        self.seconds = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            began = time.monotonic()
            await asyncio.sleep(0)
            took = time.monotonic() - began
            _DELAY.observe(took)
            self.seconds += _WEIGHT * (took - self.seconds)
