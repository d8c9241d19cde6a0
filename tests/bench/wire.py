"""HTTP/1.1 for load: asks questions over kept connections, at a hundredth of what the service pays for them.

It understands what Logue, the reference monolith and the model server send, and no more: a body with a length, or one
in chunks. While a reply streams, bytes are searched, not parsed; when it is over, the text in its deltas is compared
with what the model was told to say, so that a token lost or doubled is an error.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import cast

from tests.bench.model_server import text_of

_LAST_CHUNK = b"0\r\n\r\n"
#: Idle connections are dropped before a server would drop them.
_KEEP_SECONDS = 30.0
#: Longer than all that is looked for, which may arrive in two pieces.
_OVERLAP = 32
#: Between the chunks of a body in the middle of an event.
_FRAMING = re.compile(rb"\r\n[0-9a-f]+\r\n")
_CODE = re.compile(rb'"code":"([a-z_]+)"')
_CONVERSATION = re.compile(rb'"conversation_id": ?"([0-9a-f-]{36})"')


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server says that there is text, and that the reply is over."""

    delta: bytes
    end: bytes
    text: re.Pattern[bytes]


EVENTS = Dialect(b"event: message.delta", b"event: message.completed", re.compile(rb'data: \{"delta": ?"([^"]*)"\}'))
OPENAI = Dialect(b'"delta":{"content":', b"[DONE]", re.compile(rb'"delta":\{"content":"([^"]*)"\}'))


@dataclass(slots=True)
class Exchange:
    """One question and what came back. Times are of `time.perf_counter`, 0 until then."""

    done: asyncio.Future[None]
    dialect: Dialect
    #: The text that must come; None: it is not looked at.
    expected: bytes | None = None
    status: int = 0
    sent_at: float = 0.0
    first_at: float = 0.0
    ended_at: float = 0.0
    is_complete: bool = False
    error: str = ""
    #: Called with every piece of the body.
    on_data: Callable[[bytes], None] | None = None
    #: Whether the body is looked at as a whole in the end.
    keep_body: bool = True
    _body: list[bytes] = field(default_factory=list)
    _head: bytes = b""
    _tail: bytes = b""
    _missing: int = -1

    @property
    def is_answered(self) -> bool:
        """A reply came, whole."""
        return self.status == 200 and self.is_complete and not self.error

    @property
    def is_refused(self) -> bool:
        """The server has too much to do."""
        return self.status in (429, 503)

    @property
    def failure(self) -> str:
        """What went wrong, in a word or a few; empty for a whole reply."""
        if self.is_answered:
            return ""
        code = _CODE.search(b"".join(self._body))
        return self.error or f"status {self.status}, {code.group(1).decode() if code else 'not complete'}"

    @property
    def first_ms(self) -> float:
        """From sending to the first text."""
        return (self.first_at - self.sent_at) * 1000

    @property
    def conversation_id(self) -> str:
        """Where it was said."""
        found = _CONVERSATION.search(self._body[0]) if self._body else None
        return found.group(1).decode() if found else ""

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
            self._body.append(data)
            self._missing -= len(data)
            return self._missing <= 0
        if not data:
            return False
        if self.keep_body or len(self._body) == 0:
            self._body.append(data)
        if self.on_data is not None:
            self.on_data(data)
        seen = self._tail + data
        if not self.first_at and self.dialect.delta in seen:
            self.first_at = time.perf_counter()
        if not seen.endswith(_LAST_CHUNK):
            self._tail = seen[-_OVERLAP:]
            return False
        self._check()
        return True

    def _check(self) -> None:
        body = _FRAMING.sub(b"", b"".join(self._body))
        self.is_complete = self.dialect.end in body
        if self.is_complete and self.expected is not None:
            text = b"".join(self.dialect.text.findall(body))
            if text != self.expected:
                self.error = f"wrong text: {text[:80]!r}"


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def data_received(self, data: bytes) -> None:
        if self.exchange is not None and self.exchange.feed(data):
            self._end("")

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._end(f"connection lost: {exc!r}")

    def _end(self, error: str) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None and not exchange.done.done():
            exchange.error = exchange.error or error
            exchange.ended_at = time.perf_counter()
            exchange.done.set_result(None)


@dataclass(frozen=True, slots=True)
class Question:
    """A request, ready to be sent."""

    request: bytes
    dialect: Dialect
    expected: bytes


@cache
def _expected(tokens: int) -> bytes:
    return text_of(tokens).encode()


class WireClient:
    """Asks one server."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._idle: list[_Connection] = []

    def question(
        self, user: str, token: str, message: str, conversation_id: str | None = None, *, tokens: int = 20
    ) -> Question:
        """For Logue, or the monolith; `tokens`: how many the message asks for."""
        body = json.dumps({"message": message, "conversation_id": conversation_id, "stream": True}).encode()
        request = (
            f"POST /api/{user}/chat HTTP/1.1\r\nhost: {self._host}\r\nauthorization: Bearer {token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body
        return Question(request, EVENTS, _expected(tokens))

    def question_to_model(self, message: str, *, tokens: int = 20) -> Question:
        """For the model server itself."""
        body = json.dumps({"model": "demo", "stream": True, "messages": [{"role": "user", "content": message}]})
        request = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}"
        ).encode()
        return Question(request, OPENAI, _expected(tokens))

    async def ask(
        self, question: Question, timeout_seconds: float = 60.0, watch: Callable[[Exchange], None] | None = None
    ) -> Exchange:
        """Send `question`; returns when its answer is whole, or with an error. `watch` sees it before it is sent."""
        exchange = Exchange(asyncio.get_running_loop().create_future(), question.dialect, question.expected)
        if watch is not None:
            watch(exchange)
        try:
            connection = await self._connection()
        except OSError as error:
            exchange.error = repr(error)
            return exchange
        assert connection.transport is not None
        connection.exchange = exchange
        exchange.sent_at = time.perf_counter()
        connection.transport.write(question.request)
        try:
            async with asyncio.timeout(timeout_seconds):
                await exchange.done
        except TimeoutError:
            exchange.error = f"no answer in {timeout_seconds:.0f} s"
            connection.exchange = None
            connection.transport.abort()
        else:
            if connection.transport is not None:
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
