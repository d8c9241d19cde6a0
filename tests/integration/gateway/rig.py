"""A whole gateway in this process, with an agent that does as told and a conversation service that answers as told."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from typing import Any, Self

import httpx
import jwt
import orjson
import uvicorn
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from logue_common import frames
from logue_common.clock import utc_now
from logue_common.consumer import stop_consumer
from logue_common.errors import problem
from logue_common.events import ChatCancelRequested, ChatRequested, decode
from logue_common.frames import FrameHeader
from logue_common.ids import new_id
from logue_common.settings import KafkaSettings, TopicSettings
from logue_common.topics import CHAT_CANCELS, CHAT_REQUESTED, CHAT_STREAM, ensure_topics
from logue_devstack.server import free_ports
from logue_gateway.bootstrap import Resources, bootstrap
from logue_gateway.main import create_app
from logue_gateway.settings import GatewaySettings

SECRET = "a-secret-of-thirty-two-bytes-or-more"
TOKEN = "internal-token-for-tests"


def token(user: str = "ann", *, lives_seconds: float = 600) -> str:
    now = time.time()
    return jwt.encode({"sub": user, "iat": int(now), "exp": now + lives_seconds}, SECRET, algorithm="HS256")


def bearer(user: str = "ann") -> dict[str, str]:
    return {"Authorization": f"Bearer {token(user)}"}


@dataclasses.dataclass
class Event:
    event: str
    id: str
    data: Any

    @property
    def text(self) -> str:
        return str(self.data.get("delta") or self.data.get("content") or "")


async def events_of(response: httpx.Response, *, comments: list[str] | None = None) -> AsyncIterator[Event]:
    """The events of an SSE response, split as the standard says."""
    buffer = b""
    async for chunk in response.aiter_raw():
        buffer += chunk
        while b"\n\n" in buffer:
            block, buffer = buffer.split(b"\n\n", 1)
            fields: dict[str, str] = {}
            for line in block.split(b"\n"):
                name, _, value = line.decode().partition(": ")
                if name == "" or line.startswith(b":"):
                    if comments is not None:
                        comments.append(value)
                else:
                    fields[name] = value
            if "event" in fields:
                yield Event(fields["event"], fields["id"], orjson.loads(fields["data"]))


def assemble(events: list[Event]) -> str:
    """The text that a client shows after `events`."""
    text = ""
    for event in events:
        if event.event == "message.delta":
            text += event.data["delta"]
        elif event.event == "message.reset":
            text = ""
        elif event.event == "message.snapshot":
            text = event.data["content"]
    return text


class FakeStore:
    """The internal API of the conversation service, answering from dictionaries."""

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self.turns: dict[tuple[str, str], dict[str, Any]] = {}
        self.conversations: dict[tuple[str, str], dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []
        routes = [
            Route("/healthz", self._healthz),
            Route("/internal/users/{user}/turns/{id}", self._turn),
            Route("/internal/users/{user}/conversations", self._conversations, methods=["GET", "POST"]),
            Route("/internal/users/{user}/conversations/{id}", self._conversation, methods=["GET", "PATCH", "DELETE"]),
            Route("/internal/users/{user}/conversations/{id}/messages", self._conversation),
        ]
        self._app = Starlette(routes=routes)
        self._server: uvicorn.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def lookups(self) -> int:
        return sum("/turns/" in path for _, path in self.calls)

    async def start(self) -> None:
        self._server = await serve(self._app, self.port)

    async def stop(self) -> None:
        if self._server is not None:
            await shut(self._server)
            self._server = None

    async def _healthz(self, _: Request) -> Response:
        return Response(b"{}")

    def _note(self, request: Request) -> None:
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        self.calls.append((request.method, request.scope["path"]))

    async def _turn(self, request: Request) -> Response:
        self._note(request)
        found = self.turns.get((request.path_params["user"], request.path_params["id"]))
        return _json(found) if found else _missing("turn_not_found")

    async def _conversation(self, request: Request) -> Response:
        self._note(request)
        self.bodies.append(await request.body())
        found = self.conversations.get((request.path_params["user"], request.path_params["id"]))
        if found is None:
            return _missing("conversation_not_found")
        return Response(status_code=204) if request.method == "DELETE" else _json(found)

    async def _conversations(self, request: Request) -> Response:
        self._note(request)
        if request.method == "GET":
            return _json({"items": [], "next_cursor": None})
        created = {"id": new_id(), **orjson.loads(await request.body())}
        self.conversations[request.path_params["user"], created["id"]] = created
        return _json(created, 201)


def _json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def _missing(code: str) -> Response:
    found = problem(code, "There is no such thing.")
    return Response(orjson.dumps(found.model_dump()), found.status, media_type="application/problem+json")


async def serve(app: Any, port: int) -> uvicorn.Server:
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False, http="httptools")
    config.timeout_graceful_shutdown = 3
    server = uvicorn.Server(config)
    server.task = asyncio.create_task(server._serve())  # type: ignore[attr-defined]
    while not server.started:
        assert not server.task.done(), server.task.exception()  # type: ignore[attr-defined]
        await asyncio.sleep(0.01)
    return server


async def shut(server: uvicorn.Server) -> None:
    server.should_exit = True
    await server.task  # type: ignore[attr-defined]


class Turn:
    """One turn as the scripted agent writes its frames."""

    def __init__(self, agent: FakeAgent, request: ChatRequested, attempt: int = 1) -> None:
        self._agent = agent
        self.request = request
        self.attempt = attempt
        self.n = 0
        self.text = ""

    async def frame(self, kind: str, payload: Any, **fields: Any) -> int:
        """Write one frame; returns its offset."""
        if fields.get("request") is None and "n" not in fields:
            self.n += 1
        header = FrameHeader(
            user=fields.get("user", self.request.user_id),
            attempt=fields.get("attempt", self.attempt),
            n=fields.get("n", self.n),
            kind=kind,
            request=fields.get("request"),
        )
        partition = fields.get("partition", self.request.reply_to.partition)
        sent = await self._agent.producer.send_and_wait(
            CHAT_STREAM,
            frames.sse_data(payload),
            key=self.request.turn_id.encode(),
            partition=partition,
            headers=header.encode(),
        )
        return int(sent.offset)

    async def delta(self, text: str) -> int:
        self.text += text
        return await self.frame(frames.DELTA, {"delta": text})

    async def checkpoint(self) -> int:
        return await self.frame(frames.CHECKPOINT, {"content": self.text})

    def body(self) -> dict[str, Any]:
        request = self.request
        return {
            "conversation_id": request.conversation_id,
            "turn_id": request.turn_id,
            "status": "completed",
            "model": "demo",
            "message": {
                "id": request.reply_message_id,
                "role": "assistant",
                "content": self.text,
                "parent_id": request.user_message_id,
                "created_at": "2026-01-01T00:00:00Z",
            },
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        }

    async def complete(self) -> int:
        return await self.frame(frames.COMPLETED, self.body())

    async def fail(self, code: str) -> int:
        error = problem(code, "It did not work.")
        return await self.frame(frames.FAILED, frames.failed_body(self.request.turn_id, error))

    def stored(self, status: str = "completed") -> dict[str, Any]:
        """As the conversation service tells it; for a turn that is over after its end frame was written."""
        over = status not in ("queued", "in_progress")
        body = self.body()
        return {
            "turn_id": self.request.turn_id,
            "conversation_id": self.request.conversation_id,
            "status": status,
            "attempt": self.attempt,
            "requested_at": utc_now().isoformat(),
            "started_at": None,
            "first_token_at": None,
            "finished_at": None,
            "message": body["message"] if over and self.text else None,
            "usage": body["usage"] if over else None,
            "error": None,
            "internal": {
                "n": self.n if over else None,
                "reply_to": self.request.reply_to.model_dump(),
                "fingerprint": self.request.fingerprint,
                "user_message_id": self.request.user_message_id,
                "model": "demo",
            },
        }


class FakeAgent:
    """Reads chat.requested and chat.cancels; the test decides what becomes of them."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._servers = bootstrap_servers
        self.requests: asyncio.Queue[ChatRequested] = asyncio.Queue()
        self.cancels: asyncio.Queue[ChatCancelRequested] = asyncio.Queue()

    async def start(self) -> None:
        self.producer = AIOKafkaProducer(bootstrap_servers=self._servers, linger_ms=0, max_request_size=4 * 1024 * 1024)
        await self.producer.start()
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self._servers, fetch_max_wait_ms=50, group_id=None)
        await self._consumer.start()
        count = len((await self._consumer._client.fetch_all_metadata()).partitions_for_topic(CHAT_REQUESTED))
        partitions = [TopicPartition(topic, n) for topic in (CHAT_REQUESTED, CHAT_CANCELS) for n in range(count)]
        ends = await self._consumer.end_offsets(partitions)
        self._consumer.assign(partitions)
        for partition in partitions:
            self._consumer.seek(partition, ends[partition])
        self._task = asyncio.create_task(self._read())

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await stop_consumer(self._consumer)
        await self.producer.stop()

    async def turn(self, attempt: int = 1) -> Turn:
        """The next accepted turn."""
        return Turn(self, await asyncio.wait_for(self.requests.get(), 10), attempt)

    async def _read(self) -> None:
        async for record in self._consumer:
            if record.topic == CHAT_REQUESTED:
                self.requests.put_nowait(decode(ChatRequested, record.value))
            else:
                self.cancels.put_nowait(decode(ChatCancelRequested, record.value))


class Gateway:
    """A running gateway."""

    def __init__(self, bootstrap_servers: str, store_url: str, **settings: Any) -> None:
        self.port = settings.pop("port", None) or free_ports(1)[0]
        self.resources: Resources = bootstrap(
            GatewaySettings(
                kafka_bootstrap=bootstrap_servers,
                conversation_url=store_url,
                internal_token=SecretStr(TOKEN),
                **{
                    "jwt_secret": SecretStr(SECRET),
                    "event_id_secret": SecretStr("another-secret-of-thirty-two-bytes!!"),
                    **settings,
                },
            )
        )
        self.client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            headers=bearer(),
            timeout=20,
            limits=httpx.Limits(max_connections=None),
        )

    async def __aenter__(self) -> Self:
        self._server = await serve(create_app(self.resources), self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        self.resources.streams.stop()
        await shut(self._server)

    async def ready(self) -> None:
        """Wait until turns can be accepted."""
        async with asyncio.timeout(20):
            while (await self.client.get("/readyz")).status_code != 200 or not self.resources.replay.is_connected:
                await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def chat(self, message: str = "hello", **fields: Any) -> AsyncIterator[httpx.Response]:
        """A streaming chat request."""
        headers = fields.pop("headers", {})
        body = {"message": message, "stream": True, **fields}
        async with self.client.stream("POST", "/api/ann/chat", json=body, headers=headers) as response:
            yield response

    @contextlib.asynccontextmanager
    async def resume(self, turn_id: str, last: str | None = None) -> AsyncIterator[httpx.Response]:
        headers = {"Last-Event-ID": last} if last is not None else {}
        async with self.client.stream("GET", f"/api/ann/turns/{turn_id}/events", headers=headers) as response:
            yield response

    async def resumed(self, turn_id: str, last: str | None = None) -> list[Event]:
        """All events of a resume."""
        async with self.resume(turn_id, last) as response:
            assert response.status_code == 200, await response.aread()
            return [event async for event in events_of(response)]


async def make_topics(bootstrap_servers: str) -> None:
    await ensure_topics(KafkaSettings(kafka_bootstrap=bootstrap_servers), TopicSettings())
