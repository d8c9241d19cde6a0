"""uvicorn's HTTP/1.1 protocol, bounded: no client holds a connection for ever, or makes it grow without end.

uvicorn on httptools has no limit on a request's head, on requests sent ahead of their answers (pipelining), or on the
time that a request or the reading of its answer takes, and it adds the trailers of a chunked body to the headers.
docs/security.md says what that cost. Refusals are problem+json like every other error.
"""

from __future__ import annotations

import asyncio
import resource
from enum import Enum
from functools import cache
from http import HTTPStatus
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from logue_common.errors import PROBLEM_JSON, problem
from logue_common.ids import new_id

#: Request line and headers. A token has up to 8 KiB; nothing else of that size is of use.
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
#: Framing included: a mebibyte in chunks of one byte has six. What goes on after that is no body that anybody reads, or
#: a trailer that never ends, which the parser would keep.
MAX_BODY_BYTES_ON_WIRE = 8 * 1024 * 1024
#: Requests that may wait behind the one that is being answered. Browsers and proxies send none ahead.
MAX_PIPELINED = 8
#: Files for everything but clients: Kafka, the other services, logs.
_RESERVED_FILES = 256
_MIN_CONNECTIONS = 64


class _Phase(Enum):
    BETWEEN = "between requests"
    HEAD = "request line and headers"
    BODY = "body"


class BoundedHttp(HttpToolsProtocol):
    """Bounds head, pipelining and time of every connection. Times are in seconds, kept to within `check_seconds`."""

    #: To send a request line and headers; also how long a connection may say nothing before its first request.
    head_seconds = 10.0
    #: To send a body: 1 MiB at 35 KiB/s.
    body_seconds = 30.0
    #: A client that takes nothing of what waits for it for so long is cut off.
    stall_seconds = 30.0
    #: A connection without a request is kept for longer than clients and proxies keep theirs (httpx 5 s, aiohttp 15 s,
    #: nginx and AWS 60 s): whoever closes first must not be the one that a request is being sent to.
    idle_seconds = 75.0
    check_seconds = 5.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._phase = _Phase.BETWEEN
        #: When the phase began, or the last answer ended.
        self._since = 0.0
        self._heads = 0
        self._unfinished_bytes = 0
        self._refusal: tuple[str, str] | None = None
        self._is_refused = False
        self._unsent = 0
        self._drained_at = 0.0
        self._checks: asyncio.TimerHandle | None = None

    # Connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Part of asyncio's protocol. A connection beyond what the process has files for is closed at once."""
        super().connection_made(transport)
        if len(self.connections) > max_connections():
            transport.abort()
            return
        self._since = self._drained_at = self.loop.time()
        self._checks = self.loop.call_later(self.check_seconds, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio's protocol."""
        if self._checks is not None:
            self._checks.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio's protocol."""
        if self._is_refused:
            return
        phase, heads = self._phase, self._heads
        super().data_received(data)
        begun = self._heads - heads
        if self._phase is _Phase.BETWEEN and phase is _Phase.BETWEEN and not self._is_busy():
            # Line ends before a request; uvicorn has stopped its own clock for them.
            self._phase, self._since = _Phase.HEAD, self.loop.time()
            self._unfinished_bytes = len(data)
        elif self._phase is _Phase.HEAD and (begun == 0 or (begun == 1 and phase is _Phase.BETWEEN)):
            # All of `data` is head. A header that does not end yet is in the parser's memory only: count what it got.
            self._unfinished_bytes += len(data)
            if self._unfinished_bytes > MAX_HEAD_BYTES:
                self._refuse(*_HEAD_TOO_LARGE)
        elif self._phase is _Phase.BODY and begun == 0 and phase is _Phase.BODY:
            self._unfinished_bytes += len(data)
            if self._unfinished_bytes > MAX_BODY_BYTES_ON_WIRE:
                self._refuse("payload_too_large", "The body is far larger than anything that is read here. Send less.")

    # Parser callbacks; an exception ends the connection through send_400_response

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._phase, self._since = _Phase.HEAD, self.loop.time()
        self._heads += 1
        self._unfinished_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or a trailer, which is dropped: whoever checked the headers did not see it."""
        if self._phase is not _Phase.BODY:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole. Hot: one pass over it."""
        size, hosts = len(self.url), 0
        for name, value in self.headers:
            size += len(name) + len(value)
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding" and value.lower() != b"chunked":
                self._give_up("bad_request", "No transfer coding but chunked is understood here.")
        if size > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._give_up(*_HEAD_TOO_LARGE)
        if hosts != 1 and (hosts or self.parser.get_http_version() == "1.1"):
            self._give_up("bad_request", "Send one Host header.")  # RFC 9112, 3.2
        if len(self.pipeline) >= MAX_PIPELINED:
            self._give_up("bad_request", "Wait for answers before you send more requests on one connection.")
        super().on_headers_complete()
        self._phase, self._since = _Phase.BODY, self.loop.time()
        self._unfinished_bytes = 0

    def on_message_complete(self) -> None:
        """The request is whole."""
        super().on_message_complete()
        self._phase = _Phase.BETWEEN

    def on_response_complete(self) -> None:
        """The answer was handed to the transport."""
        super().on_response_complete()
        if self._phase is _Phase.BETWEEN:
            self._since = self.loop.time()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's sentence)
        """What cannot be parsed, or was given up above."""
        self._refuse(*(self._refusal or ("bad_request", "This is not HTTP/1.1. Check the request.")))

    def _unsupported_upgrade_warning(self) -> None:
        # Answered as if nothing had been asked for; but after it nothing more can be parsed.
        self.cycle.keep_alive = False

    # Bounds

    def _give_up(self, code: str, detail: str) -> None:
        self._refusal = (code, detail)
        raise ValueError(detail)  # the parser turns it into its own error

    def _check(self) -> None:
        """Run every `check_seconds` for as long as the connection lives."""
        now = self.loop.time()
        if self._is_stuck(now):
            self.transport.abort()
            return
        if not self.transport.is_closing() and not self.flow.read_paused:
            waited = now - self._since
            if self._phase is _Phase.BETWEEN:
                if waited > (self.idle_seconds if self._heads else self.head_seconds) and not self._is_busy():
                    self.transport.close()
            elif waited > (self.head_seconds if self._phase is _Phase.HEAD else self.body_seconds):
                self._refuse("request_timeout", "The request took too long to arrive. Send it again.")
        self._checks = self.loop.call_later(self.check_seconds, self._check)

    def _is_stuck(self, now: float) -> bool:
        """True when the client has taken nothing of what waits for it, for too long; also after a close."""
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent or unsent == 0:
            self._drained_at = now
        self._unsent = unsent
        return now - self._drained_at > self.stall_seconds

    def _is_busy(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever uvicorn's types say
        return cycle is not None and not cycle.response_complete

    def _refuse(self, code: str, detail: str) -> None:
        """Answer with a problem, unless another answer is under way, and close."""
        if self._is_refused:
            return
        self._is_refused = True
        if not (self._is_busy() and (self.cycle.response_started or self.pipeline)):
            self.transport.write(_problem_response(code, detail))
        self.transport.close()


_HEAD_TOO_LARGE = (
    "head_too_large",
    f"The request's address and headers are larger than {MAX_HEAD_BYTES // 1024} KiB, or more than {MAX_HEADERS}.",
)


def _problem_response(code: str, detail: str) -> bytes:
    correlation_id = new_id()
    found = problem(code, detail, correlation_id=correlation_id)
    body = orjson.dumps(found.model_dump(exclude_none=True))
    head = (
        f"HTTP/1.1 {found.status} {HTTPStatus(found.status).phrase}\r\n"
        f"content-type: {PROBLEM_JSON}\r\ncontent-length: {len(body)}\r\n"
        f"x-correlation-id: {correlation_id}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


@cache
def max_connections() -> int:
    """How many clients this process has files for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = 2**20 if soft == resource.RLIM_INFINITY else soft
    return max(files - _RESERVED_FILES, _MIN_CONNECTIONS)
