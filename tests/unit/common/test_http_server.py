"""The bounds of a connection, with short times. tests/hostile has them at full length, against a gateway."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from uvicorn.server import ServerState

from logue_common import http_server
from logue_common.http_server import BoundedHttp
from logue_common.service import config

_GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
_LARGE = b"x" * 8 * 2**20
#: Between two bytes of a client that keeps its connection busy.
_DRIP_SECONDS = 0.05


class _Short(BoundedHttp):
    head_seconds = 0.3
    body_seconds = 0.4
    stall_seconds = 0.5
    idle_seconds = 1.0
    check_seconds = 0.05


class App:
    """Answers with `body` when `go` is set; remembers what it received."""

    def __init__(self) -> None:
        self.body = b"ok"
        self.go = asyncio.Event()
        self.go.set()
        self.received: list[str] = []
        self.headers: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            while True:
                message = await receive()
                self.received.append(message["type"])
                if message["type"] == "http.disconnect" or not message["more_body"]:
                    break
        await self.go.wait()
        self.headers = scope["headers"]
        length = str(len(self.body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": self.body})


@pytest.fixture
def app() -> App:
    return App()


Connect = Callable[[], Any]


@pytest.fixture
async def connect(app: App) -> AsyncIterator[Connect]:
    """Opens a connection to a server with short times; all are gone afterwards."""
    state, settings = ServerState(), config(app, host="127.0.0.1", port=0)
    settings.load()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: _Short(settings, state, {}), "127.0.0.1", 0)
    address = listening.sockets[0].getsockname()

    @asynccontextmanager
    async def opened() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # little is on its way to a client that reads little
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async with AsyncExitStack() as stack, asyncio.timeout(20):
        yield lambda: stack.enter_async_context(opened())
    async with asyncio.timeout(5):
        while state.connections:
            await asyncio.sleep(0.01)
    listening.close()


async def _drip(writer: asyncio.StreamWriter, piece: bytes) -> None:
    """Send `piece` again and again until the server has had enough."""
    try:
        while not writer.is_closing():
            writer.write(piece)
            await asyncio.sleep(_DRIP_SECONDS)
    except ConnectionError:
        pass


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """Everything until the server closes, however it does."""
    found = b""
    try:
        while piece := await reader.read(65536):
            found += piece
    except ConnectionError:
        pass
    return found


async def test_a_silent_connection_is_closed(connect: Connect) -> None:
    reader, _ = await connect()
    assert await _rest(reader) == b""


@pytest.mark.parametrize("begin", [b"G", b"GET / HTTP/1.1\r\nHost: x\r\nX: "])
async def test_a_head_that_drips_gets_408(connect: Connect, begin: bytes) -> None:
    reader, writer = await connect()
    writer.write(begin)
    dripping = asyncio.create_task(_drip(writer, b"x" if len(begin) > 1 else b""))
    answer = await _rest(reader)
    dripping.cancel()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["code"] == "request_timeout"


async def test_a_body_that_drips_gets_408_and_its_application_is_told(connect: Connect, app: App) -> None:
    reader, writer = await connect()
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    dripping = asyncio.create_task(_drip(writer, b"x"))
    assert (await _rest(reader)).startswith(b"HTTP/1.1 408 ")
    dripping.cancel()
    assert app.received[-1] == "http.disconnect"


async def test_a_body_that_nobody_waits_for_ends_too(connect: Connect) -> None:
    reader, writer = await connect()
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    dripping = asyncio.create_task(_drip(writer, b"x"))
    answer = await _rest(reader)
    dripping.cancel()
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_line_ends_between_requests_do_not_keep_a_connection(connect: Connect) -> None:
    reader, writer = await connect()
    writer.write(_GET)
    dripping = asyncio.create_task(_drip(writer, b"\r\n"))
    assert (await _rest(reader)).startswith(b"HTTP/1.1 200 ")
    dripping.cancel()


async def test_a_client_that_reads_nothing_is_cut_off(connect: Connect, app: App) -> None:
    app.body = _LARGE
    reader, writer = await connect()
    writer.write(_GET)
    await asyncio.sleep(1.5)
    assert len(await _rest(reader)) < len(_LARGE)


async def test_a_client_that_reads_slowly_gets_everything(connect: Connect, app: App) -> None:
    app.body = _LARGE
    reader, writer = await connect()
    writer.write(_GET)
    size = 0
    while size < len(_LARGE):
        piece = await reader.read(2**20)
        assert piece, f"closed after {size} bytes"
        size += len(piece)
        await asyncio.sleep(0.0005)


async def test_an_answer_may_take_its_time(connect: Connect, app: App) -> None:
    app.go.clear()
    reader, writer = await connect()
    writer.write(_GET)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await reader.read(1)
    app.go.set()
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")


async def test_a_kept_connection_has_its_time_anew_for_each_request(connect: Connect) -> None:
    reader, writer = await connect()
    for _ in range(6):
        writer.write(_GET)
        assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200 ")
        await asyncio.sleep(0.1)


async def test_a_kept_connection_may_rest_for_longer_than_clients_keep_theirs(connect: Connect) -> None:
    """Or a request may meet the end of its connection, and its client cannot know what became of it."""
    reader, writer = await connect()
    writer.write(_GET)
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    await asyncio.sleep(2 * _Short.head_seconds)
    writer.write(_GET)
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    began = time.monotonic()
    assert await _rest(reader) == b""
    assert time.monotonic() - began > 0.9 * _Short.idle_seconds


def test_connections_rest_for_longer_than_proxies_keep_theirs() -> None:
    """nginx and AWS keep a connection without requests for 60 s."""
    settings = config(None, host="127.0.0.1", port=0)
    assert settings.timeout_keep_alive > 60
    assert BoundedHttp.idle_seconds >= settings.timeout_keep_alive


async def test_trailers_do_not_become_headers(connect: Connect, app: App) -> None:
    reader, writer = await connect()
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head + b"1\r\nx\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    assert [name for name, _ in app.headers] == [b"host", b"transfer-encoding"]


async def test_no_more_connections_than_files(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "max_connections", lambda: 2)
    pairs = [await connect() for _ in range(3)]
    assert await _rest(pairs[2][0]) == b""
    pairs[0][1].write(_GET)
    assert (await pairs[0][0].readline()).startswith(b"HTTP/1.1 200 ")
