"""Clients that take their time: they are cut off, and meanwhile everybody else is served as usual."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

from tests.e2e.client import Client, NewClient
from tests.hostile.conftest import gateway_process, resident_mib
from tests.hostile.wire import JSON, Target

from logue_common.http_server import BoundedHttp
from logue_devstack.stack import Stack

_MARGIN_SECONDS = 3.0
_HEAD_SECONDS = BoundedHttp.head_seconds + BoundedHttp.check_seconds + _MARGIN_SECONDS
_BODY_SECONDS = BoundedHttp.body_seconds + BoundedHttp.check_seconds + _MARGIN_SECONDS
_STALL_SECONDS = BoundedHttp.stall_seconds + 2 * BoundedHttp.check_seconds + _MARGIN_SECONDS

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def _connected(target: Target) -> AsyncIterator[Connection]:
    """A connection whose kernel holds next to nothing for it: what it does not read stays with the gateway."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", target.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _closed(reader: asyncio.StreamReader) -> bytes:
    """What came until the server closed."""
    found = b""
    try:
        while piece := await reader.read(65536):
            found += piece
    except ConnectionError:
        pass
    return found


async def _dripped(connection: Connection, begin: bytes, piece: bytes) -> bytes:
    """Send `begin`, then `piece` every second, until the server closes; what it said."""
    reader, writer = connection
    writer.write(begin)
    closed = asyncio.create_task(_closed(reader))
    while not closed.done():
        if piece:
            writer.write(piece)
        await asyncio.wait([closed], timeout=1)
    return closed.result()


async def _latencies(client: Client, seconds: float) -> list[float]:
    """What someone else notices: how long a short chat takes, again and again."""
    loop = asyncio.get_running_loop()
    until, found = loop.time() + seconds, []
    while loop.time() < until:
        began = loop.time()
        await client.chat("{{tokens=3}} hi")
        found.append(loop.time() - began)
        await asyncio.sleep(0.1)
    return found


async def test_slow_clients_are_cut_off_and_harm_nobody(stack: Stack, target: Target, new_client: NewClient) -> None:
    others, victim = new_client(), new_client(target.user)
    # What readers who do not read are sent: more than the kernel holds for them.
    large = await victim.chat("{{tokens=60000}}")
    await victim.ended(large["turn_id"])
    events = target.request(b"GET", f"turns/{large['turn_id']}/events".encode())
    listed = target.request(b"GET", f"conversations/{large['conversation_id']}/messages".encode())
    calm = await _latencies(others, 3)
    memory, files = resident_mib(stack), gateway_process(stack).num_fds()

    post = b"POST /api/%b/chat HTTP/1.1\r\nHost: x\r\n%b%b" % (target.user.encode(), target.authorization, JSON)
    kinds: dict[str, tuple[int, float, Callable[[Connection], Awaitable[bytes]]]] = {
        "silent": (200, _HEAD_SECONDS, lambda c: _dripped(c, b"", b"")),
        "head": (200, _HEAD_SECONDS, lambda c: _dripped(c, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ", b"a")),
        "between": (20, _HEAD_SECONDS, lambda c: _dripped(c, target.request(b"GET", b"/healthz"), b"\r\n")),
        "body": (50, _BODY_SECONDS, lambda c: _dripped(c, post + b"Content-Length: 999\r\n\r\n", b" ")),
        "chunks": (
            20,
            _BODY_SECONDS,
            lambda c: _dripped(c, post + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        ),
        "unread": (
            20,
            _BODY_SECONDS,
            lambda c: _dripped(c, target.request(b"GET", b"/healthz", headers=b"Content-Length: 999\r\n"), b"x"),
        ),
    }
    async with AsyncExitStack() as open_connections, asyncio.TaskGroup() as group:

        async def connect() -> Connection:
            return await open_connections.enter_async_context(_connected(target))

        async def cut_off(connection: Connection, kind: str) -> None:
            _, seconds, act = kinds[kind]
            async with asyncio.timeout(seconds):
                answer = await act(connection)
            expected = {"silent": b"", "between": b"HTTP/1.1 200 ", "unread": b"HTTP/1.1 200 "}
            assert answer.startswith(expected.get(kind, b"HTTP/1.1 408 ")), (kind, answer[:100])

        for kind, (count, _, _) in kinds.items():
            for connection in [await connect() for _ in range(count)]:
                group.create_task(cut_off(connection, kind))
        readers = []
        for request in (events, listed):
            for _ in range(20):
                connection = await connect()
                connection[1].write(request)
                readers.append(connection[0])
        reading = group.create_task(_read_slowly(readers))

        disturbed = await _latencies(others, _STALL_SECONDS)
        assert resident_mib(stack) < memory + 100
        # Readers that take next to nothing are closed too, so long after the kernel took something for the last time.
        async with asyncio.timeout(_STALL_SECONDS):
            while gateway_process(stack).num_fds() >= files + 10:
                await asyncio.sleep(0.5)
        reading.cancel()
    assert statistics.median(disturbed) < 3 * statistics.median(calm) + 0.02, (calm, disturbed)
    assert statistics.quantiles(disturbed, n=20)[-1] < 1.0, disturbed


async def _read_slowly(readers: list[asyncio.StreamReader]) -> None:
    """A byte a second from each, for ever. (What the kernel has goes on to come after the server has closed.)"""
    while True:
        for reader in readers:
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(0.01):
                    await reader.read(1)
        await asyncio.sleep(1)


async def test_a_thousand_idle_connections_are_nothing(stack: Stack, target: Target, client: Client) -> None:
    memory = resident_mib(stack)
    async with AsyncExitStack() as stack_of_connections:
        for _ in range(1000):
            await stack_of_connections.enter_async_context(_connected(target))
        answer = await client.chat(f"{{{{tokens=3}}}} {uuid4()}")
        assert answer["status"] == "completed"
        assert resident_mib(stack) < memory + 50
