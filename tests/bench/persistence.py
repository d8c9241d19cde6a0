"""How fast the conversation service stores what is in the log, and how fast history is read meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aiohttp
from tests.bench.measure import CpuClock, summary
from tests.bench.systems import System
from tests.bench.users import Population

from logue_common.events import (
    AttemptStarted,
    ChatReplied,
    ChatRequested,
    Event,
    ReplyMessage,
    ReplyTo,
    Usage,
    encode,
    event_headers,
)
from logue_common.ids import new_id
from logue_common.producer import Producer
from logue_common.topics import CHAT_PROGRESSED, CHAT_REPLIED, CHAT_REQUESTED
from logue_devstack.stack import Stack

_TURNS_PER_CONVERSATION = 10
_WARM_UP_TURNS = 1_000
#: An answer of /metrics takes a service 20 ms: what is measured is looked at seldom, but for its begin and end.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
_STORED = "logue_conversation_records_total{"
_TEXT = "A sentence of an ordinary length, as people write them when they ask something. " * 3


async def drain(stack: Stack, turns: int) -> dict[str, Any]:
    """Write `turns` turns into the log while the service is away; then see how fast its processes store them."""
    producer = Producer({"bootstrap_servers": stack.kafka_bootstrap}, client_id="bench")
    producer.start()
    await producer.wait_connected(10.0)
    await _store(stack, producer, _WARM_UP_TURNS)
    found = await _store(stack, producer, turns)
    await producer.close()
    return found


async def _store(stack: Stack, producer: Producer, turns: int) -> dict[str, Any]:
    names = [name for name in stack.names if name.startswith("conversation")]
    for name in names:
        await asyncio.to_thread(stack.stop_one, name)
    await _write(producer, turns)
    await asyncio.gather(*(asyncio.to_thread(stack.launch, name) for name in names))
    children = {name: stack.server(name).child for name in (*names, "postgres", "broker")}
    clock = CpuClock({name: child.id.pid for name, child in children.items() if child is not None})
    first, began, before = 0, time.monotonic(), clock.read()
    async with aiohttp.ClientSession() as http:
        while sum(stored := await _stored(http, stack)) < 3 * turns:
            if not first and all(stored):  # now they are at work: their start is not what is measured
                first, began, before = sum(stored), time.monotonic(), clock.read()
            rate = (sum(stored) - first) / (time.monotonic() - began)
            half_of_the_rest = (3 * turns - sum(stored)) / 2 / rate if first and rate else 0.0
            await asyncio.sleep(min(max(half_of_the_rest, _SHORTEST_PAUSE), _LONGEST_PAUSE))
    seconds, cpu = time.monotonic() - began, clock.since(before)
    events = 3 * turns - first
    cpu = {"conversation": sum(cpu[name] for name in names), "postgres": cpu["postgres"], "broker": cpu["broker"]}
    return {
        "processes": len(names),
        "events": events,
        "seconds": round(seconds, 2),
        "events_per_second": round(events / seconds),
        "cpu_us_per_event": {name: round(used * 1e6 / events, 1) for name, used in cpu.items()},
    }


async def _stored(http: aiohttp.ClientSession, stack: Stack) -> list[int]:
    """Events that each process has stored since it was started."""
    stored = []
    for port in stack.ports.conversations:
        try:
            async with http.get(f"http://127.0.0.1:{port}/metrics") as response:
                lines = (await response.text()).splitlines()
        except aiohttp.ClientError:
            lines = []
        stored.append(int(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(_STORED))))
    return stored


async def _write(producer: Producer, turns: int) -> None:
    """Three events for each turn, as they come in practice: conversations side by side, the topics in parallel."""
    deliveries: list[asyncio.Future[Any]] = []
    conversations: list[tuple[str, str]] = []
    for number in range(turns):
        if number % _TURNS_PER_CONVERSATION == 0:
            conversations.append((f"user-{random.randrange(1000)}", str(uuid4())))
        user_id, conversation_id = random.choice(conversations[-50:])
        for topic, event in _events(user_id, conversation_id, new_id()):
            headers = event_headers(event, source="bench", at=datetime.now(UTC))
            deliveries.append(await producer.enqueue(topic, key=conversation_id, value=encode(event), headers=headers))
    await asyncio.gather(*deliveries)


def _events(user_id: str, conversation_id: str, turn_id: str) -> list[tuple[str, Event]]:
    now = datetime.now(UTC)
    question, reply = str(uuid4()), str(uuid4())
    who = {"user_id": user_id, "conversation_id": conversation_id, "turn_id": turn_id}
    return [
        (
            CHAT_REQUESTED,
            ChatRequested(
                **who,
                user_message_id=question,
                reply_message_id=reply,
                content=_TEXT,
                new_conversation=False,
                reply_to=ReplyTo(partition=0, offset=0, request_id=new_id()),
                requested_at=now,
            ),
        ),
        (CHAT_PROGRESSED, AttemptStarted(**who, attempt=1, started_at=now)),
        (
            CHAT_REPLIED,
            ChatReplied(
                **who,
                status="completed",
                attempt=1,
                n=20,
                user_message_id=question,
                model="demo",
                message=ReplyMessage(id=reply, content=_TEXT, parent_id=question, created_at=now),
                usage=Usage(prompt_tokens=10, completion_tokens=20, total_tokens=30),
                started_at=now,
                first_token_at=now,
                finished_at=now,
            ),
        ),
    ]


async def history_under_load(system: System, rate: float, seconds: float) -> dict[str, Any]:
    """The time of a page of 20 messages, while `rate` turns a second are answered."""
    population = Population(system, 200)
    pages: list[float] = []
    errors = 0
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds

    async def ask_on() -> None:
        async with asyncio.TaskGroup() as group:
            while loop.time() < until:
                group.create_task(population.ask())
                await asyncio.sleep(1 / rate)

    async def read_on(http: aiohttp.ClientSession) -> None:
        nonlocal errors
        await asyncio.sleep(1.0)
        while loop.time() < until:
            user = random.choice([user for user in population.users if user.conversation_id])
            url = f"http://127.0.0.1:{system.ports[0]}/api/{user.name}/conversations/{user.conversation_id}/messages"
            began = time.perf_counter()
            async with http.get(url, headers={"Authorization": f"Bearer {user.token}"}) as response:
                await response.read()
                errors += response.status != 200
            pages.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.05)

    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        group.create_task(ask_on())
        group.create_task(read_on(http))
    population.close()
    return {"turns_per_second": rate, "page_ms": summary(pages), "errors": errors}
