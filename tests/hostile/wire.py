"""HTTP as an attacker writes it: bytes on a socket, and whatever comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

JSON = b"Content-Type: application/json\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back before the server closed, or before nothing more came for `wait` seconds."""

    raw: bytes
    seconds: float
    #: The server closed the connection.
    closed: bool
    head: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "head", self.raw.partition(b"\r\n\r\n")[0].split(b"\r\n"))

    @property
    def status(self) -> int:
        """0 when there was no answer."""
        return int(self.head[0].split()[1]) if self.raw else 0

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case name; a header that comes twice is an AssertionError."""
        found: dict[str, str] = {}
        for line in self.head[1:]:
            name, _, value = line.decode("latin-1").partition(": ")
            assert name.lower() not in found, f"{name} twice: {self.head}"
            found[name.lower()] = value
        return found

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    def problem(self) -> dict[str, Any]:
        """The problem object that it must be."""
        assert self.headers["content-type"] == "application/problem+json", self.raw[:500]
        found: dict[str, Any] = json.loads(self.body)
        assert found["status"] == self.status
        assert found["correlation_id"] == self.headers["x-correlation-id"]
        assert found["detail"].endswith(".")
        assert "traceback" not in self.body.decode().lower()
        return found


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway, and a user that it knows."""

    port: int
    user: str
    token: str

    @property
    def authorization(self) -> bytes:
        return b"Authorization: Bearer " + self.token.encode() + b"\r\n"

    def request(self, method: bytes, path: bytes, *, headers: bytes = b"", body: bytes = b"") -> bytes:
        """`path` below /api/{user}/, or an absolute one."""
        path = path if path.startswith((b"/", b"http:")) else b"/api/%b/%b" % (self.user.encode(), path)
        return b"%b %b HTTP/1.1\r\nHost: logue\r\n%b%b\r\n%b" % (method, path, self.authorization, headers, body)

    def chat(self, body: bytes, headers: bytes = b"") -> bytes:
        """POST chat with a proper length."""
        length = b"Content-Length: %d\r\n" % len(body)
        return self.request(b"POST", b"chat", headers=JSON + length + headers, body=body)

    async def exchange(self, *sent: bytes, wait: float = 10.0) -> Answer:
        """Send, then read the answer (by its Content-Length; else until nothing comes)."""
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        began, raw, closed = loop.time(), b"", False
        try:
            async with asyncio.timeout(wait):
                await _send(writer, sent)
                while not _is_whole(raw):
                    chunk = await reader.read(65536)
                    if not chunk:
                        closed = True
                        break
                    raw += chunk
        except TimeoutError:
            pass
        except ConnectionError:
            closed = True
        finally:
            writer.transport.abort()
        return Answer(raw, loop.time() - began, closed)


async def _send(writer: asyncio.StreamWriter, pieces: Iterable[bytes]) -> None:
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass  # refused before it was all there: the answer says so


def _is_whole(raw: bytes) -> bool:
    head, end, body = raw.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if end and line.startswith(b"content-length: "):
            return len(body) >= int(line[16:])
    return end != b"" and b" 204 " in head.split(b"\r\n", 1)[0]
