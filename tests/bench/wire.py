"""HTTP/1.1 for load: asks Logue a question over kept connections, at little cost.

It understands what Logue sends and no more: a body with a length, or one in chunks. Bytes are searched, not parsed.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field

_DELTA, _COMPLETED = b"event: message.delta", b"event: message.completed"
_LAST_CHUNK = b"0\r\n\r\n"
#: Idle connections are dropped before a server would drop them.
_KEEP_SECONDS = 30.0
#: The longest name of an event: one may arrive in two pieces.
_OVERLAP = len(_COMPLETED)


@dataclass(slots=True)
class Exchange:
    """One question and what came back. Times are of `time.perf_counter`, 0 until then."""

    done: asyncio.Future[None]
    status: int = 0
    first_at: float = 0.0
    is_complete: bool = False
    error: str = ""
    _tail: bytes = b""
    _head: bytes = b""
    _missing: int = field(default=-1)

    @property
    def is_answered(self) -> bool:
        """A reply came, whole."""
        return self.status == 200 and self.is_complete and not self.error

    def feed(self, data: bytes) -> bool:
        """More of the response; True when that is its end."""
        if not self.status:
            self._head += data
            head, separator, data = self._head.partition(b"\r\n\r\n")
            if not separator:
                return False
            self.status = int(head[9:12])
            _, found, rest = head.lower().partition(b"content-length: ")
            self._missing = int(rest.partition(b"\r\n")[0]) if found else -1
        if self._missing >= 0:
            self._missing -= len(data)
            return self._missing <= 0
        seen = self._tail + data
        if not self.first_at and _DELTA in seen:
            self.first_at = time.perf_counter()
        if not self.is_complete and _COMPLETED in seen:
            self.is_complete = True
        self._tail = seen[-_OVERLAP:]
        return seen.endswith(_LAST_CHUNK)


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.exchange is not None and self.exchange.feed(data):
            self._end("")

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._end(f"connection lost: {exc!r}")

    def _end(self, error: str) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None and not exchange.done.done():
            exchange.error = error
            exchange.done.set_result(None)


class WireClient:
    """Asks one gateway."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._idle: list[_Connection] = []

    def question(self, user: str, token: str, message: str) -> bytes:
        """A request, to be sent as often as wanted."""
        body = json.dumps({"message": message, "stream": True}).encode()
        return (
            f"POST /api/{user}/chat HTTP/1.1\r\nhost: {self._host}\r\nauthorization: Bearer {token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body

    async def ask(self, question: bytes, timeout_seconds: float = 30.0) -> Exchange:
        """Send `question`; returns when its answer is whole, or with an error."""
        exchange = Exchange(asyncio.get_running_loop().create_future())
        try:
            connection = await self._connection()
        except OSError as error:
            exchange.error = repr(error)
            return exchange
        assert connection.transport is not None
        connection.exchange = exchange
        connection.transport.write(question)
        done, _ = await asyncio.wait((exchange.done,), timeout=timeout_seconds)
        if not done:
            exchange.error = f"no answer in {timeout_seconds:.0f} s"
            connection.exchange = None
            connection.transport.abort()
        elif connection.transport is not None:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        return exchange

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is None:
                continue
            if time.monotonic() - connection.idle_since < _KEEP_SECONDS:
                return connection
            connection.transport.close()
        _, made = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port)
        return made

    def close(self) -> None:
        """Close what is idle."""
        for connection in self._idle:
            if connection.transport is not None:
                connection.transport.close()
        self._idle.clear()
