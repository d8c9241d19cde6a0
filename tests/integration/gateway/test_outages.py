"""Slow clients, quiet turns, full houses; Kafka and the conversation service away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest
from tests.integration.gateway.rig import (
    SECRET,
    TOKEN,
    FakeAgent,
    FakeStore,
    Gateway,
    assemble,
    bearer,
    events_of,
    make_topics,
)

from logue_common import frames
from logue_devstack.noida import NoidaBroker
from logue_devstack.server import free_ports
from logue_gateway.streams import sse

ASYNC = {"Prefer": "respond-async"}


async def test_a_quiet_stream_is_kept_awake(kafka: str, agent: FakeAgent, store: FakeStore) -> None:
    async with Gateway(kafka, store.url, gateway_heartbeat_seconds=0.3) as gateway:
        await gateway.ready()
        comments: list[str] = []
        async with gateway.chat("hi") as response:
            turn = await agent.turn()
            await asyncio.sleep(1.2)  # the behaviour is about time that passes
            await turn.delta("x")
            await turn.complete()
            events = [event async for event in events_of(response, comments=comments)]
    assert 2 <= len(comments) <= 4
    assert assemble(events) == "x"


async def _slow_client(gateway: Gateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Asks for a stream and reads nothing of it."""
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.setblocking(False)
    await asyncio.get_running_loop().sock_connect(small, ("127.0.0.1", gateway.port))
    reader, writer = await asyncio.open_connection(sock=small, limit=1024)
    body = b'{"message": "hi", "stream": true}'
    head = f"POST /api/ann/chat HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()['Authorization']}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    return reader, writer


async def test_a_client_that_takes_nothing_is_given_up(
    gateway: Gateway, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "WRITE_STALL_SECONDS", 0.5)
    _, writer = await _slow_client(gateway)
    turn = await agent.turn()
    for _ in range(2):
        await turn.delta("x" * 3_000_000)
    await turn.frame(frames.FAILED, {})
    async with asyncio.timeout(10):
        while gateway.resources.streams._waiters:
            await asyncio.sleep(0.05)
    writer.close()


async def test_a_client_too_slow_is_closed_and_resumes(gateway: Gateway, agent: FakeAgent) -> None:
    reader, writer = await _slow_client(gateway)
    turn = await agent.turn()
    streams = gateway.resources.streams
    async with asyncio.timeout(20):
        while streams._waiters:
            await turn.delta("x" * 32_000)
    waiting = gateway.resources.settings.gateway_stream_buffer_bytes
    assert len(turn.text) > waiting
    received = b""
    async with asyncio.timeout(20):
        while chunk := await reader.read(65536):
            received += chunk
    writer.close()
    await turn.delta("the end")
    await turn.complete()
    ids = [line[4:].strip() for line in received.split(b"\n") if line.startswith(b"id: ")]
    rest = await gateway.resumed(turn.request.turn_id, ids[0].decode())  # turn.started
    assert assemble(rest) == turn.text


async def test_a_full_house_is_503_overloaded(kafka: str, agent: FakeAgent, store: FakeStore) -> None:
    async with Gateway(kafka, store.url, gateway_max_streams=1) as gateway:
        await gateway.ready()
        async with gateway.chat("hi") as response:
            turn = await agent.turn()
            answer = await gateway.client.post("/api/ann/chat", json={"message": "hi"})
            assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
            assert answer.headers["retry-after"] == "1"
            await turn.complete()
            _ = [event async for event in events_of(response)]
        async with asyncio.timeout(5):
            while (
                await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers=ASYNC)
            ).status_code != 202:
                await asyncio.sleep(0.05)


async def test_a_client_that_is_gone_frees_its_place(gateway: Gateway, agent: FakeAgent) -> None:
    async with gateway.chat("hi"):
        await agent.turn()
        assert len(gateway.resources.streams._waiters) == 1
    async with asyncio.timeout(5):
        while gateway.resources.streams._waiters:
            await asyncio.sleep(0.01)
    assert agent.cancels.empty()


async def test_shutdown_ends_streams_and_waiting_requests(kafka: str, agent: FakeAgent, store: FakeStore) -> None:
    async with Gateway(kafka, store.url) as gateway:
        await gateway.ready()
        asked = asyncio.create_task(gateway.client.post("/api/ann/chat", json={"message": "hi"}))
        await agent.turn()
        async with gateway.chat("hi") as response:
            await agent.turn()
            gateway.resources.streams.stop()
            events = [event.event async for event in events_of(response)]
        assert events == ["turn.started"]
        assert (await asked).status_code == 202


@pytest.fixture
def noida(tmp_path: Path) -> NoidaBroker:
    """A broker of the test's own, not started."""
    return NoidaBroker(tmp_path / "broker", free_ports(1)[0])


async def test_without_kafka_it_lives_says_so_and_recovers(noida: NoidaBroker, store: FakeStore) -> None:
    async with Gateway(noida.bootstrap, store.url) as gateway:
        assert (await gateway.client.get("/healthz")).status_code == 200
        ready = await gateway.client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["dependencies"]["conversation"]["ok"]
        assert not ready.json()["dependencies"]["kafka"]["ok"]
        answer = await gateway.client.post("/api/ann/chat", json={"message": "hi"})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        with noida:
            await make_topics(noida.bootstrap)
            await gateway.ready()
            await _one_turn(noida, gateway)


async def test_a_broker_that_restarts_in_mid_stream(noida: NoidaBroker, store: FakeStore) -> None:
    with noida:
        await make_topics(noida.bootstrap)
        async with Gateway(noida.bootstrap, store.url) as gateway:
            await gateway.ready()
            agent = FakeAgent(noida.bootstrap)
            await agent.start()
            async with gateway.chat("hi") as response:
                turn = await agent.turn()
                stream = events_of(response)
                await turn.delta("before ")
                events = [await anext(stream), await anext(stream)]
                await agent.stop()
                noida.stop()
                assert (await gateway.client.get("/readyz")).status_code == 503
                noida.start()
                agent = turn._agent = FakeAgent(noida.bootstrap)
                await agent.start()
                await gateway.ready()
                await turn.delta("after")
                await turn.complete()
                async with asyncio.timeout(20):
                    events += [event async for event in stream]
            assert assemble(events) == "before after"
            assert assemble(events[:1] + await gateway.resumed(turn.request.turn_id, events[0].id)) == "before after"
            await agent.stop()
            await _one_turn(noida, gateway)


async def test_without_the_conversation_service(gateway: Gateway, agent: FakeAgent, store: FakeStore) -> None:
    first = (await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers=ASYNC)).json()
    await store.stop()
    ready = await gateway.client.get("/readyz")
    assert ready.status_code == 503
    assert not ready.json()["dependencies"]["conversation"]["ok"]
    for method, path in (
        ("GET", "/api/ann/conversations"),
        ("GET", f"/api/ann/turns/{first['turn_id']}"),
    ):
        answer = await gateway.client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
    # What this instance knows goes on.
    body = {"message": "more", "conversation_id": first["conversation_id"]}
    assert (await gateway.client.post("/api/ann/chat", json=body, headers=ASYNC)).status_code == 202
    await store.start()
    assert (await gateway.client.get("/readyz")).status_code == 200


async def _one_turn(noida: NoidaBroker, gateway: Gateway) -> None:
    """A turn streams, also on a replay. What a broker's crash cost is told as 503, and a later try succeeds."""
    agent = FakeAgent(noida.bootstrap)
    await agent.start()
    try:
        async with asyncio.timeout(30):
            while not await _streams(agent, gateway):
                pass
    finally:
        await agent.stop()


async def _streams(agent: FakeAgent, gateway: Gateway) -> bool:
    async with gateway.chat("hi") as response:
        if response.status_code == 503:
            await response.aread()
            assert response.json()["code"] in ("unavailable", "accept_unknown")
            return False
        turn = await agent.turn()
        while turn.request.turn_id != response.headers["x-correlation-id"]:
            turn = await agent.turn()
        await turn.delta("yes")
        await turn.complete()
        events = [event async for event in events_of(response)]
    assert assemble(events) == "yes"
    assert assemble(await gateway.resumed(turn.request.turn_id, events[0].id)) == "yes"
    return True


async def test_a_broker_that_lost_its_tail(noida: NoidaBroker, store: FakeStore) -> None:
    """kill -9: acknowledged records are gone and offsets are used again. The readers notice, and go on."""
    noida.start()
    try:
        await make_topics(noida.bootstrap)
        await asyncio.sleep(1.5)  # the stand-in writes its log to disk once a second
        async with Gateway(noida.bootstrap, store.url) as gateway:
            await gateway.ready()
            for _ in range(3):
                await _one_turn(noida, gateway)
            noida.kill()
            noida.start()
            await make_topics(noida.bootstrap)
            await gateway.ready()
            await _one_turn(noida, gateway)
    finally:
        noida.stop()


def _environment(**changes: str) -> dict[str, str]:
    settings = {
        "LOGUE_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "LOGUE_CONVERSATION_URL": "http://127.0.0.1:1",
        "LOGUE_INTERNAL_TOKEN": TOKEN,
        "LOGUE_JWT_SECRET": SECRET,
        "LOGUE_EVENT_ID_SECRET": SECRET,
        "LOGUE_GATEWAY_PORT": str(free_ports(1)[0]),
    }
    return {**os.environ, **settings, **changes}


async def _run(environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "logue_gateway", env=environment, stderr=asyncio.subprocess.PIPE
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"LOGUE_JWT_SECRET": ""}, "LOGUE_JWKS_URL"),
        ({"LOGUE_JWT_SECRET": "short"}, "32 bytes"),
        ({"LOGUE_EVENT_ID_SECRET": "short"}, "LOGUE_EVENT_ID_SECRET"),
    ],
)
async def test_settings_that_cannot_work_are_one_sentence(changes: dict[str, str], said: str) -> None:
    process = await _run(_environment(**changes))
    _, text = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert said in text.decode()
    assert "Traceback" not in text.decode()
    assert "short" not in text.decode()


async def test_sigterm_ends_streams_and_the_process_at_once(kafka: str, agent: FakeAgent, store: FakeStore) -> None:
    environment = _environment(LOGUE_KAFKA_BOOTSTRAP=kafka, LOGUE_CONVERSATION_URL=store.url)
    process = await _run(environment)
    url = f"http://127.0.0.1:{environment['LOGUE_GATEWAY_PORT']}"
    async with httpx.AsyncClient(base_url=url, headers=bearer()) as client:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get("/readyz")).status_code == 200:
                        break
                await asyncio.sleep(0.05)
        body = {"message": "hi", "stream": True}
        async with client.stream("POST", "/api/ann/chat", json=body) as response, asyncio.timeout(5):
            await agent.turn()
            process.terminate()
            assert [event.event async for event in events_of(response)] == ["turn.started"]
            await process.communicate()
    assert process.returncode in (0, -signal.SIGTERM)
