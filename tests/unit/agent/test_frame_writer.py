"""What a frame writer does beside numbering and gathering (test_coalesce.py)."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from tests.unit.agent.events import requested

from logue_agent.frame_writer import FrameWriter
from logue_agent.turn import Turn
from logue_common.producer import Producer


class Kafka:
    """Notes what a producer is asked for, and acknowledges nothing."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def enqueue(self, topic: str, *, value: bytes, **_: Any) -> asyncio.Future[None]:
        self.asked.append(value.decode())
        return asyncio.get_running_loop().create_future()

    async def let_go(self) -> None:
        self.asked.append("let go")


async def test_the_first_text_is_let_go_before_anything_else_is_done() -> None:
    kafka = Kafka()
    writer = FrameWriter(cast("Producer", kafka), Turn(requested("one"), partition=0, offset=0, attempt=1))
    await writer.say("a")
    await writer.say("b")
    await writer.flush()
    writer.close()
    first, then, rest = kafka.asked
    assert ('"a"' in first, then, '"b"' in rest) == (True, "let go", True)
