"""The Python processes of the stack: Logue's services and the demo model."""

from __future__ import annotations

import http.client
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from logue_devstack.process import Command
from logue_devstack.server import LOOPBACK, Server


class Service(Server):
    """`python -m module …`, ready when it answers 200 to GET `ready_path`."""

    def __init__(
        self,
        name: str,
        port: int,
        module: str,
        *,
        environment: Mapping[str, str],
        log: Path,
        arguments: Sequence[str] = (),
        ready_path: str = "/readyz",
        stopping: threading.Event | None = None,
    ) -> None:
        super().__init__(name, port, stopping=stopping)
        self.environment = dict(environment)
        self.log = log
        self._module = module
        self._arguments = arguments
        self._ready_path = ready_path

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def command(self) -> Command:
        return python(self._module, *self._arguments, environment=self.environment, log=self.log)

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=2)
        try:
            connection.request("GET", self._ready_path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def python(module: str, *arguments: str, environment: Mapping[str, str], log: Path) -> Command:
    """Our own interpreter running a module."""
    return Command(argv=[sys.executable, "-m", module, *arguments], log=log, environment=environment)
