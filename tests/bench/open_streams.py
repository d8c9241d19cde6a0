"""Ten thousand open streams on one gateway process, each with an event every few seconds.

The agents' part is played here: requests are read from the log and answered with frames of our own, so that what is
measured is the gateway. Each event carries the time when it was produced; a tenth of the streams gets no event at all,
but heartbeats.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer
from tests.bench.measure import quantile
from tests.bench.systems import System
from tests.bench.wire import EVENTS, Exchange, Question, WireClient

from logue_common.consumer import tune_fetches
from logue_common.events import ChatRequested, decode
from logue_common.frames import COMPLETED, DELTA, FrameHeader, delta_data, sse_data
from logue_common.producer import Producer
from logue_common.topics import CHAT_REQUESTED, CHAT_STREAM

_EVENT_SECONDS = 4.0
#: One in so many streams is quiet.
_QUIET = 10
_HEARTBEAT_SECONDS = 15.0
#: Proxies wait for 30 s and more.
_HEARTBEAT_SLACK_SECONDS = 2.0
_OPENED_PER_SECOND = 400
_STAMP = re.compile(rb'"delta":"@([0-9.]+)"')
_TICK_SECONDS = 0.05


@dataclass(slots=True)
class _Turn:
    request: ChatRequested
    n: int = 0


@dataclass(slots=True)
class Seen:
    """What the clients saw."""

    delivery_ms: list[float] = field(default_factory=list)
    #: Seconds between two comments on a quiet stream.
    heartbeats: list[float] = field(default_factory=list)
    dropped: int = 0


class Speaker:
    """Takes the turns from the log and speaks for them."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producer = Producer({"bootstrap_servers": bootstrap}, client_id="bench-speaker")
        self.turns: list[_Turn] = []

    async def listen(self) -> None:
        """Collect turns until cancelled."""
        self._producer.start()
        await self._producer.wait_connected(10.0)
        consumer = AIOKafkaConsumer(
            CHAT_REQUESTED, bootstrap_servers=self._bootstrap, auto_offset_reset="earliest", group_id="bench-speaker"
        )
        await consumer.start()
        tune_fetches(consumer)
        try:
            while True:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        turn = _Turn(decode(ChatRequested, record.value))
                        self.turns.append(turn)
                        await self._say(turn, DELTA, delta_data("hello"))
        finally:
            await consumer.stop()

    async def speak(self, seconds: float) -> None:
        """One event for each of the turns that are not quiet, every few seconds, evenly spread."""
        speaking = [turn for number, turn in enumerate(self.turns) if number % _QUIET]
        began, said = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            due = int(passed * len(speaking) / _EVENT_SECONDS)
            for number in range(said, due):
                await self._say(speaking[number % len(speaking)], DELTA, delta_data(f"@{time.perf_counter():.6f}"))
            said = due
            await asyncio.sleep(_TICK_SECONDS)

    async def end(self) -> None:
        """End every turn."""
        for turn in self.turns:
            await self._say(turn, COMPLETED, sse_data({"message": {"content": ""}}))
        await self._producer.close()

    async def _say(self, turn: _Turn, kind: str, value: bytes) -> None:
        turn.n += 1
        request = turn.request
        await self._producer.enqueue(
            CHAT_STREAM,
            key=request.turn_id,
            value=value,
            headers=FrameHeader(request.user_id, 1, turn.n, kind, model_ms=0 if turn.n == 1 else None).encode(),
            partition=request.reply_to.partition,
        )


async def measure(system: System, bootstrap: str, streams: int, seconds: float) -> dict[str, Any]:
    """Open `streams` streams, keep them for so long, and say what their clients saw."""
    seen, speaker, client = Seen(), Speaker(bootstrap), WireClient("127.0.0.1", system.ports[0])
    (gateway,) = (pid for name, pid in system.pids.items() if name.startswith("gateway"))
    listening = asyncio.create_task(speaker.listen())
    await asyncio.sleep(2.0)
    before = _resident(gateway)
    tokens = {f"user-{number}": system.token(f"user-{number}") for number in range(100)}
    users = list(tokens.items())
    asked = []
    for number in range(streams):
        user, token = users[number % len(users)]
        question = client.question(user, token, "Tell me more.")
        asked.append(asyncio.create_task(_stream(client, Question(question.request, EVENTS, b""), seen)))
        await asyncio.sleep(1 / _OPENED_PER_SECOND)
    while len(speaker.turns) < streams and not any(task.done() for task in asked):
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)
    opened = _resident(gateway)
    clock, began = system.clock(), time.monotonic()
    cpu = clock.read()
    await speaker.speak(seconds)
    used, took = clock.since(cpu), time.monotonic() - began
    during = _resident(gateway)
    seen.dropped = sum(task.done() for task in asked)
    await speaker.end()
    await asyncio.wait(asked, timeout=60.0)
    listening.cancel()
    late = [gap for gap in seen.heartbeats if gap > _HEARTBEAT_SECONDS + _HEARTBEAT_SLACK_SECONDS]
    return {
        "streams": streams,
        "turns": len(speaker.turns),
        "seconds": round(took, 1),
        "events_per_second": round(len(seen.delivery_ms) / took),
        "delivery_ms": {f"p{p}": round(quantile(seen.delivery_ms, p / 100), 1) for p in (50, 95, 99)},
        "dropped": seen.dropped,
        "heartbeats": {
            "n": len(seen.heartbeats),
            "late": len(late),
            "longest": round(max(seen.heartbeats, default=0), 2),
        },
        "kib_per_stream": {
            "opened": round((opened - before) / streams / 1024, 1),
            "after_events": round((during - before) / streams / 1024, 1),
        },
        "cores": {name: round(seconds_used / took, 3) for name, seconds_used in used.items()},
    }


async def _stream(client: WireClient, question: Question, seen: Seen) -> None:
    heard_at = 0.0

    def on_data(data: bytes) -> None:
        nonlocal heard_at
        now = time.perf_counter()
        for stamp in _STAMP.findall(data):
            seen.delivery_ms.append((now - float(stamp)) * 1000)
        if b": keep-alive" in data and heard_at:
            seen.heartbeats.append(now - heard_at)
        heard_at = now

    def watch(exchange: Exchange) -> None:
        exchange.expected = None
        exchange.keep_body = False
        exchange.on_data = on_data

    await client.ask(question, 600.0, watch)


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
