"""The suite's own TCP proxy: `python -m tests.chaos.proxy PORT`, and `Proxy`, with which tests start and steer it.

A process of its own, so that neither its CPU nor its stalls mix with the event loop of a workload. One JSON object a
line on the control connection, each answered by one: `{"do": "delay", "links": "agent-*>broker-1", "seconds": 0.1}`.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
import threading
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

import uvloop
from tests.chaos.links import LOOPBACK, Link

from logue_devstack.errors import DevstackError
from logue_devstack.process import Command
from logue_devstack.server import Server, free_ports

_ROOT = Path(__file__).parents[2]
_ANSWER_SECONDS = 10.0
_HEALED = {
    "delay_seconds": 0.0,
    "jitter_seconds": 0.0,
    "bytes_per_second": None,
    "is_blackhole": False,
    "is_refusing": False,
}


class Proxy(Server):
    """Links by name, and what is wrong with them; `links` is a name or a glob, such as `"agent-*>broker-*"`.

    Faults add up (a link may be slow and then a blackhole) until `heal`. Each method returns the names of the links
    that it touched, and raises DevstackError when there are none. Blocking, for some milliseconds; safe in threads.
    """

    stop_seconds: ClassVar[float] = 5.0

    def __init__(self, folder: Path, *, seed: int = 0) -> None:
        super().__init__("proxy", free_ports(1)[0])
        self.log = folder.absolute() / "proxy.log"
        self._seed = seed
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._ports: dict[str, int] = {}

    def command(self) -> Command:
        argv = [sys.executable, "-m", "tests.chaos.proxy", str(self.port), str(self._seed)]
        return Command(argv=argv, log=self.log, directory=_ROOT)

    def stop(self) -> None:
        self._hang_up()
        super().stop()

    def link(self, name: str, targets: int | Sequence[int], *, port: int = 0) -> int:
        """A new link from a loopback port (0: a free one, which is returned) to one of the target ports."""
        self._ports[name] = int(self._ask(do="link", name=name, targets=_addresses(targets), port=port)["port"])
        return self._ports[name]

    def retarget(self, links: str, targets: int | Sequence[int]) -> list[str]:
        """New connections go to these ports; open ones stay where they are."""
        return list(self._ask(do="retarget", links=links, targets=_addresses(targets))["links"])

    def port_of(self, name: str) -> int:
        """Where the link listens."""
        return self._ports[name]

    def delay(self, links: str, seconds: float, jitter: float = 0.0) -> list[str]:
        """Every byte arrives so much later, give or take the jitter, in both directions; order is kept."""
        return self._change(links, delay_seconds=seconds, jitter_seconds=jitter)

    def throttle(self, links: str, bytes_per_second: float) -> list[str]:
        """The connections of a link share this bandwidth, in each direction."""
        return self._change(links, bytes_per_second=bytes_per_second)

    def blackhole(self, links: str) -> list[str]:
        """Nothing arrives any more, in either direction, and nobody is told: open connections stall.

        New ones are accepted, and reach nobody.
        """
        return self._change(links, is_blackhole=True)

    def refuse(self, links: str) -> list[str]:
        """New connections are refused; open ones stay (`reset` ends them)."""
        return self._change(links, is_refusing=True)

    def heal(self, links: str = "*") -> list[str]:
        """All is well again. What a blackhole stalled goes on where it stopped, byte for byte.

        That is what TCP does after packets were lost: a request whose sender has long given up may arrive now. Only
        connections that were begun in the blackhole, and given up in it, never arrive.
        """
        return self._change(links, **_HEALED)

    def reset(self, links: str) -> list[str]:
        """RST for both ends of every connection that is open now."""
        return list(self._ask(do="reset", links=links)["links"])

    def stats(self, links: str = "*") -> dict[str, dict[str, int]]:
        """For each link: connections accepted, open now and reset so far; bytes to the target (up) and back (down)."""
        found: dict[str, dict[str, int]] = self._ask(do="stats", links=links)["stats"]
        return found

    def _change(self, links: str, **condition: float | bool | None) -> list[str]:
        return list(self._ask(do="change", links=links, condition=condition)["links"])

    def _ask(self, **question: Any) -> dict[str, Any]:
        with self._lock:
            try:
                answer = self._exchange(json.dumps(question).encode() + b"\n")
            except OSError as error:
                self._hang_up()  # a late answer must not be taken for the next one
                raise DevstackError(f"The proxy does not answer ({error}); see {self.log}.") from error
        if "error" in answer:
            raise DevstackError(answer["error"])
        return answer

    def _exchange(self, question: bytes) -> dict[str, Any]:
        if self._control is None:
            self._control = socket.create_connection((LOOPBACK, self.port), timeout=_ANSWER_SECONDS)
        self._control.sendall(question)
        received = b""
        while not received.endswith(b"\n"):
            part = self._control.recv(65536)
            if not part:
                raise ConnectionResetError("it ended")
            received += part
        answer: dict[str, Any] = json.loads(received)
        return answer

    def _hang_up(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None


class Switchboard:
    """The proxy's side of the control connection."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._links: dict[str, Link] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one control connection, line by line."""
        while line := await reader.readline():
            try:
                answer = await self._do(**json.loads(line))
            except (DevstackError, OSError) as error:
                answer = {"error": str(error)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _do(self, do: str, **what: Any) -> dict[str, Any]:
        if do == "link":
            return {"port": await self._add(**what)}
        links = [link for name, link in self._links.items() if fnmatchcase(name, what["links"])]
        if not links:
            raise DevstackError(f"No link is called {what['links']}; there are {', '.join(self._links) or 'none'}.")
        for link in links:
            if do == "change":
                await link.change(**what["condition"])
            elif do == "reset":
                link.reset()
            elif do == "retarget":
                link.retarget([(host, target) for host, target in what["targets"]])
        return {"links": [link.name for link in links], "stats": {link.name: link.stats() for link in links}}

    async def _add(self, name: str, targets: list[tuple[str, int]], port: int) -> int:
        if name in self._links:
            raise DevstackError(f"There is a link {name} already.")
        link = Link(name, [(host, target) for host, target in targets], f"{self._seed} {name}")
        await link.open(port)
        self._links[name] = link
        return link.port


def _addresses(ports: int | Sequence[int]) -> list[tuple[str, int]]:
    return [(LOOPBACK, port) for port in ([ports] if isinstance(ports, int) else ports)]


async def main(port: int, seed: str) -> None:
    """Serves the control port until the process is ended."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a blackhole holds what its clients have given up
    server = await asyncio.start_server(Switchboard(seed).serve, LOOPBACK, port, limit=1024 * 1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
