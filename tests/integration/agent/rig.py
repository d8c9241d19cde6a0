"""A test's own gateway and store around real agents, a real broker and the demo model."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson
import uvicorn
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from logue_agent.bootstrap import Resources, open_resources
from logue_agent.settings import AgentSettings
from logue_common.consumer import stop_consumer
from logue_common.events import (
    AttemptStarted,
    ChatCancelRequested,
    ChatReplied,
    ChatRequested,
    ReplyMessage,
    ReplyTo,
    encode,
    event_headers,
)
from logue_common.frames import FrameHeader
from logue_common.ids import new_id
from logue_common.internal import ContextMessage, StoredTurn, TurnContext, TurnInternals
from logue_common.settings import KafkaSettings, TopicSettings
from logue_common.topics import (
    CHAT_CANCELS,
    CHAT_PROGRESSED,
    CHAT_REPLIED,
    CHAT_REQUESTED,
    CHAT_STREAM,
    CO_PARTITIONED,
    ensure_topics,
)
from logue_devstack.demo_model.app import DemoModel
from logue_devstack.demo_model.knobs import Knobs
from logue_devstack.membership import expire
from logue_devstack.server import free_ports


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Serve `app` on loopback; yields its address."""
    [port] = free_ports(1)
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=port, lifespan="off", log_level="critical", timeout_graceful_shutdown=1
        )
    )
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


@dataclass
class Frame:
    """A record of chat.stream, as a gateway sees it."""

    header: FrameHeader
    data: Any
    offset: int


@dataclass
class FakeStore:
    """Answers the context call as the conversation service would, from what the test put in."""

    contexts: dict[str, TurnContext] = field(default_factory=dict)
    not_ready: int = 0
    down: bool = False
    calls: list[str] = field(default_factory=list)

    def app(self) -> Starlette:
        async def context(request: Request) -> Response:
            self.calls.append(request.path_params["turn"])
            if self.down:
                return Response(b'{"code":"unavailable"}', 503)
            if self.not_ready:
                self.not_ready -= 1
                return Response(b'{"code":"not_ready"}', 409)
            found = self.contexts.get(request.path_params["conversation"])
            if found is None:
                return Response(b'{"code":"conversation_not_found"}', 404)
            return Response(found.model_dump_json(), media_type="application/json")

        path = "/internal/users/{user}/conversations/{conversation}/turns/{turn}/context"
        return Starlette(routes=[Route(path, context)])


class Rig:
    """Plays gateway and store. Frames and outcomes are collected by turn."""

    def __init__(self, bootstrap: str, model_url: str, store_url: str, store: FakeStore, group: str) -> None:
        self.bootstrap = bootstrap
        self.model_url = model_url
        self.store = store
        self.store_url = store_url
        self.group = group
        self.frames: dict[str, list[Frame]] = defaultdict(list)
        self.outcomes: dict[str, list[ChatReplied]] = defaultdict(list)
        self.announced: dict[str, list[AttemptStarted]] = defaultdict(list)
        self._changed = asyncio.Condition()
        self._producer: AIOKafkaProducer | None = None
        self.agents: list[Resources] = []

    def settings(self, **changes: Any) -> AgentSettings:
        values: dict[str, Any] = {
            "kafka_bootstrap": self.bootstrap,
            "conversation_url": self.store_url,
            "internal_token": "a-token-for-tests-only",
            "agent_group": self.group,
            "agent_context_wait_seconds": 1.0,
            "agent_drain_seconds": 1.0,
            "OPENAI_BASE_URL": f"{self.model_url}/v1",
            "OPENAI_API_KEY": "none",
        }
        return AgentSettings(**(values | changes))

    @asynccontextmanager
    async def agent(self, **changes: Any) -> AsyncIterator[Resources]:
        """An agent in this process, ready."""
        try:
            async with open_resources(self.settings(**changes)) as resources:
                self.agents.append(resources)
                await self.until(lambda: resources.subscriber.is_member, 20)
                yield resources
        finally:
            # One that stopped while the group was rebalanced may not have left: the stand-in would wait for ever.
            await expire(self.bootstrap, os.getpid(), (self.group,))

    def request(self, content: str, **fields: Any) -> ChatRequested:
        turn_id = fields.pop("turn_id", new_id())
        conversation_id = fields.pop("conversation_id", None)
        values: dict[str, Any] = {
            "user_id": "user-1",
            "conversation_id": conversation_id or new_id(),
            "new_conversation": conversation_id is None,
            "turn_id": turn_id,
            "user_message_id": new_id(),
            "reply_message_id": new_id(),
            "content": content,
            "reply_to": ReplyTo(partition=0, offset=0, request_id=new_id()),
            "requested_at": datetime.now(UTC),
        }
        return ChatRequested(**(values | fields))

    async def publish(self, topic: str, event: Any) -> None:
        assert self._producer is not None
        headers = event_headers(event, source="test", at=datetime.now(UTC))
        await self._producer.send_and_wait(topic, encode(event), key=event.conversation_id.encode(), headers=headers)

    async def ask(self, content: str, **fields: Any) -> ChatRequested:
        request = self.request(content, **fields)
        await self.publish(CHAT_REQUESTED, request)
        return request

    async def cancel(self, request: ChatRequested) -> None:
        event = ChatCancelRequested(
            user_id=request.user_id,
            conversation_id=request.conversation_id,
            turn_id=request.turn_id,
            requested_at=datetime.now(UTC),
        )
        await self.publish(CHAT_CANCELS, event)

    async def raw(self, topic: str, key: str, value: bytes) -> None:
        assert self._producer is not None
        await self._producer.send_and_wait(topic, value, key=key.encode())

    async def until(self, condition: Any, seconds: float = 10.0) -> None:
        """Wait until `condition()` holds; records that arrive wake it up."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not condition():
            left = deadline - asyncio.get_running_loop().time()
            assert left > 0, "the condition did not come true in time"
            async with self._changed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), min(left, 0.05))

    async def end_of(self, request: ChatRequested, seconds: float = 10.0) -> Frame:
        await self.until(lambda: any(frame.header.is_end for frame in self.frames[request.turn_id]), seconds)
        return next(frame for frame in self.frames[request.turn_id] if frame.header.is_end)

    def kinds(self, request: ChatRequested) -> list[str]:
        return [frame.header.kind for frame in self.frames[request.turn_id]]

    def text(self, request: ChatRequested) -> str:
        frames = self.frames[request.turn_id]
        return "".join(frame.data["delta"] for frame in frames if frame.header.kind == "message.delta")

    async def model_calls(self) -> dict[str, int]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.model_url}/demo/calls") as response:
            body = await response.json()
        return body["by_message"]

    async def committed(self) -> dict[TopicPartition, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=self.group, enable_auto_commit=False)
        await consumer.start()
        try:
            cluster = await consumer._client.fetch_all_metadata()
            tps = [TopicPartition(t, p) for t in CO_PARTITIONED for p in cluster.partitions_for_topic(t)]
            return {tp: await consumer.committed(tp) or 0 for tp in tps}
        finally:
            await stop_consumer(consumer)

    async def _collect(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            batches = await consumer.getmany(timeout_ms=200)
            for records in batches.values():
                for record in records:
                    self._note(record)
            async with self._changed:
                self._changed.notify_all()

    def _note(self, record: ConsumerRecord) -> None:
        if record.topic == CHAT_STREAM:
            turn_id = record.key.decode()
            self.frames[turn_id].append(
                Frame(FrameHeader.decode(record.headers), orjson.loads(record.value), record.offset)
            )
            return
        with contextlib.suppress(ValueError):
            if record.topic == CHAT_PROGRESSED:
                started = AttemptStarted.model_validate_json(record.value)
                self.announced[started.turn_id].append(started)
            else:
                outcome = ChatReplied.model_validate_json(record.value)
                self.outcomes[outcome.turn_id].append(outcome)


async def _start_group_at_end(bootstrap: str, group: str) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        cluster = await consumer._client.fetch_all_metadata()
        tps = [TopicPartition(topic, p) for topic in CO_PARTITIONED for p in cluster.partitions_for_topic(topic)]
        consumer.assign(tps)
        await consumer.commit(await consumer.end_offsets(tps))
    finally:
        await stop_consumer(consumer)


@asynccontextmanager
async def open_rig(bootstrap: str) -> AsyncIterator[Rig]:
    """Topics exist, the group starts at their ends, and frames and outcomes from now on are collected."""
    await ensure_topics(KafkaSettings(kafka_bootstrap=bootstrap), TopicSettings())
    store = FakeStore()
    group = f"agents-{new_id()}"
    await _start_group_at_end(bootstrap, group)
    async with AsyncExitStack() as stack:
        model_url = await stack.enter_async_context(serving(DemoModel(Knobs())))
        store_url = await stack.enter_async_context(serving(store.app()))
        rig = Rig(bootstrap, model_url, store_url, store, group)
        rig._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
        await rig._producer.start()
        stack.push_async_callback(rig._producer.stop)
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, fetch_max_wait_ms=20)
        await consumer.start()
        stack.push_async_callback(stop_consumer, consumer)
        cluster = await consumer._client.fetch_all_metadata()
        topics = (CHAT_STREAM, CHAT_PROGRESSED, CHAT_REPLIED)
        tps = [TopicPartition(topic, p) for topic in topics for p in cluster.partitions_for_topic(topic)]
        consumer.assign(tps)
        for tp, end in (await consumer.end_offsets(tps)).items():
            consumer.seek(tp, end)
        collecting = asyncio.create_task(rig._collect(consumer))

        async def stop_collecting() -> None:
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)

        stack.push_async_callback(stop_collecting)
        yield rig


def context_of(*contents: str) -> TurnContext:
    """A stored conversation: user and assistant in turn."""
    messages: list[ContextMessage] = []
    for number, content in enumerate(contents):
        parent = messages[-1].id if messages else None
        role = "user" if number % 2 == 0 else "assistant"
        messages.append(ContextMessage(id=new_id(), parent_id=parent, role=role, content=content))
    parent_id = messages[-1].id if messages else None
    return TurnContext(parent_id=parent_id, messages=messages, status="queued")


def decided_context(request: ChatRequested, reply: str) -> TurnContext:
    """What the store says of a turn that it has an outcome of."""
    now = datetime.now(UTC)
    message = ReplyMessage(
        id=request.reply_message_id, content=reply, parent_id=request.user_message_id, created_at=now
    )
    turn = StoredTurn(
        turn_id=request.turn_id,
        conversation_id=request.conversation_id,
        status="completed",
        attempt=1,
        requested_at=now,
        started_at=now,
        first_token_at=now,
        finished_at=now,
        message=message,
        usage=None,
        error=None,
        internal=TurnInternals(n=3, user_message_id=request.user_message_id),
    )
    return TurnContext(parent_id=None, messages=[], status="completed", decided=turn)


class AgentProcess:
    """An agent in a process of its own, which a test may kill or freeze."""

    def __init__(self, rig: Rig, **environment: str) -> None:
        self.rig = rig
        [self.port] = free_ports(1)
        settings = rig.settings()
        variables = {
            "LOGUE_KAFKA_BOOTSTRAP": rig.bootstrap,
            "LOGUE_CONVERSATION_URL": rig.store_url,
            "LOGUE_INTERNAL_TOKEN": settings.internal_token.get_secret_value(),
            "LOGUE_AGENT_GROUP": rig.group,
            "LOGUE_AGENT_PORT": str(self.port),
            "OPENAI_BASE_URL": f"{rig.model_url}/v1",
            "OPENAI_API_KEY": "none",
        }
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by kill)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "logue_agent"],
            env=os.environ | variables | environment,
            stdout=self.log,
            stderr=self.log,
        )

    async def ready(self, seconds: float = 30.0) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        async with aiohttp.ClientSession() as session:
            while asyncio.get_running_loop().time() < deadline:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"http://127.0.0.1:{self.port}/readyz") as response:
                        if response.status == 200:
                            return
                await asyncio.sleep(0.05)
        raise AssertionError(f"the agent did not become ready: {self.output()}")

    def output(self) -> str:
        self.log.seek(0)
        return self.log.read().decode()[-4000:]

    def signal(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    async def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.log.close()
        await self.expire()

    async def expire(self) -> None:
        """Its session timeout passes at once: the stand-in broker would wait for ever."""
        await expire(self.rig.bootstrap, self.process.pid, (self.rig.group,))


@contextlib.asynccontextmanager
async def agent_process(rig: Rig, **environment: str) -> AsyncIterator[AgentProcess]:
    """A started agent process, ready; killed in the end."""
    agent = AgentProcess(rig, **environment)
    try:
        await agent.ready()
        yield agent
    finally:
        await agent.kill()
