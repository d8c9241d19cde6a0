"""`python -m tests.bench.model_server --port N`: a model server for load, so cheap that it hardly shows.

It speaks as much of OpenAI's protocol as a streamed chat completion takes, and obeys the directive of the demo model in
the last message: `{{ttft=0.2 gap=0.05 tokens=20}}`, in seconds. Without a gap all tokens go out in one write. Tokens of
one instant go out together, so many streams at a pace cost one timer.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import itertools
import re
from functools import cache
from typing import NamedTuple, cast

import uvloop

_DIRECTIVE = re.compile(rb"(ttft|gap|tokens)=([0-9.]+)")
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_MODELS = b'{"object":"list","data":[{"id":"demo","object":"model","created":0,"owned_by":"bench"}]}'
_FRAME = b'{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"demo","choices":['
_DELTA = _FRAME + b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}],"usage":null}'
_USAGE = _FRAME + b'],"usage":{"prompt_tokens":10,"completion_tokens":%d,"total_tokens":%d}}'
#: How exact the pace is; below what anybody measures here.
_TICK_SECONDS = 0.004


def text_of(tokens: int) -> str:
    """The reply of so many tokens."""
    return " ".join(f"w{n}" for n in range(1, tokens + 1))


class Script(NamedTuple):
    """What to say, and when (seconds)."""

    ttft: float
    gap: float
    tokens: int


def script_of(body: bytes) -> Script:
    """The directive in the last message; without one an instant reply of 20 tokens."""
    at = body.rfind(b"{{")
    end = body.find(b"}}", at)
    found = dict(_DIRECTIVE.findall(body[at:end])) if at >= 0 else {}
    return Script(float(found.get(b"ttft", 0)), float(found.get(b"gap", 0)), int(found.get(b"tokens", 20)))


def _chunk(data: bytes) -> bytes:
    event = b"data: %b\n\n" % data
    return b"%x\r\n%b\r\n" % (len(event), event)


@cache
def _token(n: int) -> bytes:
    return _chunk(_DELTA % (b'{"content":"%bw%d"}' % (b"" if n == 1 else b" ", n), b"null"))


@cache
def _tokens(count: int) -> bytes:
    return b"".join(_token(n) for n in range(1, count + 1))


_ROLE = _chunk(_DELTA % (b'{"role":"assistant","content":""}', b"null"))
_STOP = _chunk(_DELTA % (b"{}", b'"stop"'))


@cache
def _ending(tokens: int) -> bytes:
    return _STOP + _chunk(_USAGE % (tokens, tokens + 10)) + _chunk(b"[DONE]") + b"0\r\n\r\n"


class Pace:
    """Says what is due, of all replies that are paced."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Connection, Script, int]] = []
        self._order = itertools.count()

    def add(self, at: float, connection: Connection, script: Script, said: int) -> None:
        heapq.heappush(self._due, (at, next(self._order), connection, script, said))

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = loop.time()
            while self._due and self._due[0][0] <= now:
                at, _, connection, script, said = heapq.heappop(self._due)
                if connection.say(script, said + 1):
                    self.add(at + script.gap, connection, script, said + 1)


class Connection(asyncio.Protocol):
    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        _, found, rest = head.lower().partition(b"\r\ncontent-length:")
        if len(body) < (int(rest.partition(b"\r\n")[0]) if found else 0):
            return
        self._received = b""
        assert self._transport is not None
        if head.startswith(b"GET"):
            answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            self._transport.write(answer % (len(_MODELS), _MODELS))
            return
        script = script_of(body)
        if script.ttft or script.gap:
            self._transport.write(_HEAD + _ROLE)
            self._pace.add(asyncio.get_running_loop().time() + script.ttft, self, script, 0)
        else:
            self._transport.write(_HEAD + _ROLE + _tokens(script.tokens) + _ending(script.tokens))

    def say(self, script: Script, n: int) -> bool:
        """Say token `n`, or all where there is no gap; True when there is more."""
        if self._transport is None:
            return False
        if not script.gap:
            self._transport.write(_tokens(script.tokens) + _ending(script.tokens))
            return False
        self._transport.write(_token(n) if n < script.tokens else _token(n) + _ending(script.tokens))
        return n < script.tokens


async def _serve(port: int) -> None:
    pace = Pace()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(pace), "127.0.0.1", port, backlog=4096)
    async with server:
        await pace.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.model_server", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(_serve(parser.parse_args().port))
