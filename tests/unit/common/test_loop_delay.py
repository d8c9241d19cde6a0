"""The delay of the event loop, with a loop that is kept busy."""

from __future__ import annotations

import asyncio
import time

from logue_common.loop_delay import LoopDelay

_ROUND_SECONDS = 0.02


async def test_it_is_the_time_of_a_round() -> None:
    delay, loop = LoopDelay(), asyncio.get_running_loop()
    measuring = asyncio.create_task(delay.run())
    until = time.monotonic() + 1.0

    def keep_busy() -> None:
        time.sleep(_ROUND_SECONDS)
        if time.monotonic() < until:
            loop.call_soon(keep_busy)

    loop.call_soon(keep_busy)
    while time.monotonic() < until:
        await asyncio.sleep(0.05)
    measuring.cancel()
    assert delay.seconds > _ROUND_SECONDS / 2
