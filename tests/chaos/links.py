"""A link: a port whose connections are passed on to a target byte for byte, and what can go wrong on the way.

Everything here runs in the event loop of the proxy's own process (proxy.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import deque
from dataclasses import asdict, dataclass
from typing import cast

from tests.chaos.pipes import Bucket, Condition, Pipe

LOOPBACK = "127.0.0.1"
#: Unsent bytes in a socket's buffer beyond which the other side is not read any more.
_UNSENT_BYTES = 256 * 1024
_DIAL_SECONDS = 5.0
_LINGER_NOT = struct.pack("ii", 1, 0)
_ESTABLISHED = 1  # tcp_states.h


@dataclass(slots=True)
class Counts:
    """What a link did so far; `open` is now."""

    accepted: int = 0
    open: int = 0
    reset: int = 0
    #: Targets that did not take a connection.
    unreachable: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


class Side(asyncio.Protocol):
    """One end of a connection: the client's or the target's."""

    def __init__(self, connection: Connection, outgoing: Pipe, incoming: Pipe) -> None:
        self._connection = connection
        self._outgoing = outgoing
        self._incoming = incoming

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.Transport", transport)  # uvloop's is one by its methods only
        stream.set_write_buffer_limits(high=_UNSENT_BYTES)
        self._outgoing.source = self._incoming.sink = stream
        self._connection.made()

    def data_received(self, data: bytes) -> None:
        self._connection.count(self, len(data))
        self._outgoing.feed(data)

    def eof_received(self) -> bool:
        self._outgoing.end()
        return True  # the other direction goes on

    def pause_writing(self) -> None:
        self._incoming.sink_is_full = True
        self._incoming.steer()

    def resume_writing(self) -> None:
        self._incoming.sink_is_full = False
        self._incoming.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.lost()


class Connection:
    """A client, a target, and a pipe for each direction."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._up = Pipe(link.condition, link.bucket_up, link.jitter, self._close_when_done)
        self._down = Pipe(link.condition, link.bucket_down, link.jitter, self._close_when_done)
        self.client = Side(self, self._up, self._down)
        self._target = Side(self, self._down, self._up)
        self._dialing: asyncio.Task[None] | None = None
        self._is_lost = False
        self._is_over = False

    def made(self) -> None:
        """The client, and then the target, is connected."""
        if self._is_over:  # it was reset while the target was being dialled
            self.reset()
        elif self._dialing is None:
            self._link.counts.accepted += 1
            self._link.connections.add(self)
            self._dialing = asyncio.create_task(self._dial())
            # uvloop begins to read after this callback, whatever it says.
            asyncio.get_running_loop().call_soon(self._up.steer)
        if not self._is_over:
            self.go_on()

    def count(self, side: Side, size: int) -> None:
        if side is self.client:
            self._link.counts.bytes_up += size
        else:
            self._link.counts.bytes_down += size

    def go_on(self) -> None:
        """The link has changed."""
        if self._is_lost and not self._link.condition.is_blackhole:
            self.reset()
        else:
            self._up.go_on()
            self._down.go_on()

    def _close_when_done(self) -> None:
        if self._up.is_finished and self._down.is_finished:
            self._leave()
            for transport in self._transports:
                transport.close()  # sends what is left

    def lost(self) -> None:
        """One end is gone without a proper end: so is the other, as soon as the link lets it know."""
        self._is_lost = True
        if not self._is_over:
            self.go_on()

    def reset(self) -> None:
        """RST to both ends."""
        self._leave()
        for transport in self._transports:
            tcp = transport.get_extra_info("socket")
            if tcp is not None:
                with contextlib.suppress(OSError):
                    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            transport.abort()

    @property
    def _transports(self) -> list[asyncio.Transport]:
        return [transport for transport in (self._up.source, self._up.sink) if transport is not None]

    def _leave(self) -> None:
        self._is_over = True
        self._link.connections.discard(self)
        self._up.cancel()
        self._down.cancel()
        if self._dialing is not None:
            self._dialing.cancel()

    async def _dial(self) -> None:
        await self._link.passable.wait()
        if self._client_gave_up():
            self.reset()  # a SYN that was lost meanwhile would not be sent again either
            return
        loop = asyncio.get_running_loop()
        for host, port in self._link.next_targets():
            try:
                async with asyncio.timeout(_DIAL_SECONDS):
                    await loop.create_connection(lambda: self._target, host, port)
            except (OSError, TimeoutError):
                self._link.counts.unreachable += 1
                continue
            return
        self.reset()

    def _client_gave_up(self) -> bool:
        assert self._up.source is not None
        tcp = self._up.source.get_extra_info("socket")
        return tcp is None or bool(tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED)


class Link:
    """Listens on `port` of loopback; each connection goes to the first target that accepts, each to another one first.

    A client whose targets all refuse is reset, since its connection was accepted already.
    """

    def __init__(self, name: str, targets: list[tuple[str, int]], seed: str) -> None:
        self.name = name
        self.condition = Condition()
        self.counts = Counts()
        self.connections: set[Connection] = set()
        self.jitter = random.Random(seed)
        self.bucket_up = Bucket(self.condition)
        self.bucket_down = Bucket(self.condition)
        self.passable = asyncio.Event()
        self.passable.set()
        self._targets = deque(targets)
        # Bound but never listening: keeps the port ours while connections are refused.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        return int(self._reserved.getsockname()[1])

    async def open(self, port: int) -> None:
        """Listens on the port, or with 0 on a free one. Raises OSError."""
        self._reserved.bind((LOOPBACK, port))
        await self._listen()

    async def change(self, **condition: float | bool | None) -> None:
        """Sets these fields of the condition, now."""
        for name, value in condition.items():
            setattr(self.condition, name, value)
        if self.condition.is_blackhole:
            self.passable.clear()
        else:
            self.passable.set()
        if self.condition.is_refusing and self._server is not None:
            self._server.close()
            self._server = None
        elif not self.condition.is_refusing:
            await self._listen()
        for connection in list(self.connections):
            connection.go_on()

    def reset(self) -> None:
        """RST for every connection that is open now."""
        self.counts.reset += len(self.connections)
        for connection in list(self.connections):
            connection.reset()

    def retarget(self, targets: list[tuple[str, int]]) -> None:
        """New connections go to these; open ones stay where they are."""
        self._targets = deque(targets)

    def next_targets(self) -> list[tuple[str, int]]:
        """All of them, in the order in which to try them."""
        targets = list(self._targets)
        self._targets.rotate(-1)
        return targets

    def stats(self) -> dict[str, int]:
        self.counts.open = len(self.connections)
        return asdict(self.counts)

    async def _listen(self) -> None:
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: Connection(self).client, LOOPBACK, self.port, reuse_port=True, backlog=1024
            )
