"""Starts again what dies, with backoff, and says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from logue_devstack.errors import DevstackError
from logue_devstack.process import shown
from logue_devstack.server import Server

_LOOK_SECONDS = 0.1
_STABLE_SECONDS = 30.0
"""Who lived this long starts again without a penalty."""


@dataclass(slots=True)
class Backoff:
    """Seconds to wait before the next restart: 0.5, 1, 2, … 15; time is passed in."""

    failures: int = 0
    started: float = 0.0

    def delay(self, now: float) -> float:
        """Notes a death at `now`."""
        self.failures = 0 if now - self.started >= _STABLE_SECONDS else self.failures
        delay: float = min(0.5 * 2**self.failures, 15.0)
        self.failures += 1
        self.started = now + delay
        return delay


class Watcher:
    """A thread that looks after the servers given to `start` and `watch`, until `forget` or `stop`."""

    def __init__(
        self,
        start_again: Callable[[str], None],
        report: Callable[[str], None],
        on_death: Callable[[Server], None] = lambda _: None,
    ) -> None:
        self._start_again = start_again
        self._on_death = on_death
        self._report = report
        self._watched: dict[str, Server] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._due: dict[str, float] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, servers: Iterable[Server]) -> None:
        for server in servers:
            self.watch(server)
        self._thread = threading.Thread(target=self._look, name="watcher", daemon=True)
        self._thread.start()

    def watch(self, server: Server) -> None:
        self._due.pop(server.name, None)
        self._watched[server.name] = server

    def forget(self, name: str) -> None:
        """From now on its death is nobody's surprise."""
        self._watched.pop(name, None)
        self._due.pop(name, None)

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            for name, server in list(self._watched.items()):
                if server.is_running:
                    continue
                now = time.monotonic()
                if name not in self._due:
                    self._note_death(server, now)
                elif now >= self._due[name]:
                    self._restart(name)

    def _note_death(self, server: Server, now: float) -> None:
        delay = self._backoffs.setdefault(server.name, Backoff()).delay(now)
        self._due[server.name] = now + delay
        child = server.child
        code = child.returncode() if child else None
        log = shown(child.log) if child else "its log"
        self._report(f"! {server.name} ended (exit code {code}); starting it again in {delay:.1f} s. See {log}")
        self._on_death(server)

    def _restart(self, name: str) -> None:
        if name not in self._watched:
            return
        self._due.pop(name, None)
        try:
            self._start_again(name)
        except DevstackError as error:
            self._report(f"! {name} could not be started again: {error}")
        else:
            self._report(f"  {name} was started again")
