"""Server: one process that listens on a loopback port; what it is, how it is prepared, when it is ready."""

from __future__ import annotations

import random
import signal
import socket
import threading
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path
from typing import ClassVar, Self

from logue_devstack.errors import DevstackError
from logue_devstack.process import Child, Command, shown, spawn, tail, wait_until

LOOPBACK = "127.0.0.1"
_FIRST_PORT = 10_000  # below it are those of well-known servers, and of `logue up`


class Server(ABC):
    """Started, stopped, killed and paused from any thread, one call at a time.

    Usable on its own in tests (`with NoidaBroker(path, port) as broker`), and by the stack, which also restarts it.
    """

    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_seconds: ClassVar[float] = 10.0
    ready_seconds: ClassVar[float] = 30.0

    def __init__(self, name: str, port: int, *, stopping: threading.Event | None = None) -> None:
        self.name = name
        self.port = port
        self.child: Child | None = None
        self.stopping = stopping or threading.Event()

    def check(self) -> None:
        """Raises DevstackError when something that it needs is missing or taken."""
        require_free_port(self.name, self.port)

    def prepare(self) -> None:  # noqa: B027 - most servers need no preparation
        """Does what must be done once before the first start (downloads, formatting). Idempotent."""

    @abstractmethod
    def command(self) -> Command:
        """What runs."""

    def is_ready(self) -> bool:
        """Whether it can be used now. Asked only while the process runs."""
        return port_answers(self.port)

    def after_ready(self) -> None:  # noqa: B027 - most servers need nothing
        """Does what needs the running server (first roles and databases). Idempotent."""

    def launch(self) -> None:
        """Starts the process without waiting for it. Raises DevstackError when its port is busy."""
        self.check()
        self.child = spawn(self.command())

    def wait_ready(self) -> None:
        """Raises DevstackError when it ends or is not ready in time."""

        def settled() -> bool:
            return not self.is_running or self.is_ready()

        in_time = wait_until(settled, self.ready_seconds, self.stopping)
        child = self.child
        if child is None or child.returncode() is not None:
            code, log = (child.returncode(), shown(child.log)) if child else (None, None)
            end = tail(child.log) if child else ""
            raise DevstackError(f"{self.name} ended during its start (exit code {code}); see {log}.\n{end}")
        if not in_time:
            late = f"{self.name} was not ready after {self.ready_seconds:.0f} s; see {shown(child.log)}."
            raise DevstackError(f"{late}\n{tail(child.log)}")

    def start(self) -> None:
        """Prepares it, starts it and returns when it can be used."""
        self.prepare()
        self.launch()
        self.wait_ready()
        self.after_ready()

    def stop(self) -> None:
        """Ends it gracefully, or after `stop_seconds` the hard way."""
        if self.child is not None and self.is_running:
            self.child.send_to_family(signal.SIGCONT)
            self.child.stop(self.stop_signal, self.stop_seconds)

    def kill(self) -> None:
        """SIGKILL for it and its descendants: a crash."""
        if self.child is not None and self.is_running:
            self.child.kill()

    def pause(self) -> None:
        """SIGSTOP for it and its descendants: a frozen machine."""
        if self.child is not None:
            self.child.send_to_family(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: the frozen machine wakes up."""
        if self.child is not None:
            self.child.send_to_family(signal.SIGCONT)

    @property
    def is_running(self) -> bool:
        return self.child is not None and self.child.returncode() is None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def port_answers(port: int) -> bool:
    """Whether something accepts TCP connections on the loopback port."""
    with closing(socket.socket()) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((LOOPBACK, port)) == 0


def require_free_port(name: str, port: int) -> None:
    """Raises DevstackError when another program listens on the port."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise DevstackError(
                f"Port {port} on {LOOPBACK}, which {name} needs, is in use by another program; "
                "end that program and try again."
            ) from error


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now.

    None of those that the kernel gives to outgoing connections, where there are others: whoever is killed and started
    again finds its port free. None twice in one process either: who was given a port may not listen on it yet.
    """
    probes: list[socket.socket] = []
    choice = random.SystemRandom()
    try:
        while len(probes) < count:
            probe = socket.socket()
            probes.append(probe)
            try:
                probe.bind((LOOPBACK, choice.choice(_LISTENING_PORTS) if _LISTENING_PORTS else 0))
                is_new = probe.getsockname()[1] not in _given
            except OSError:
                is_new = False
            if not is_new:
                probes.pop().close()
        ports = [int(probe.getsockname()[1]) for probe in probes]
        _given.update(ports)
        return ports
    finally:
        for probe in probes:
            probe.close()


_given: set[int] = set()


def _listening_ports() -> range:
    try:
        first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        first_outgoing = 49_152  # RFC 6335
    return range(_FIRST_PORT, first_outgoing)


_LISTENING_PORTS = _listening_ports()
