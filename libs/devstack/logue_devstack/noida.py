"""The stand-in broker: noida-db speaks the Kafka protocol in one small native process.

It is for development only: kill -9 loses up to about a second of acknowledged records and reuses their offsets
(docs/adr on the embedded broker). SIGTERM loses nothing.
"""

from __future__ import annotations

import signal
import threading
from importlib.resources import files
from pathlib import Path

from logue_devstack.errors import DevstackError
from logue_devstack.process import Command
from logue_devstack.server import LOOPBACK, Server


class NoidaBroker(Server):
    """A Kafka-protocol broker on `port`, with its log under `data_dir`."""

    def __init__(
        self, data_dir: Path, port: int, *, log: Path | None = None, stopping: threading.Event | None = None
    ) -> None:
        super().__init__("broker", port, stopping=stopping)
        self.data_dir = data_dir.absolute()
        self.log = log or self.data_dir / "broker.log"

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def prepare(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)

    def command(self) -> Command:
        binary = Path(str(files("noida_db").joinpath("noida-db")))
        if not binary.is_file():
            raise DevstackError("The broker's program is missing from the noida-db package; run `make install` again.")
        binary.chmod(0o755)
        where = ("--host", LOOPBACK, "--kafka-port", str(self.port), "--data-dir", str(self.data_dir))
        return Command(
            argv=[str(binary), "start", "--only", "kafka", *where],
            log=self.log,
            directory=self.data_dir,
            death_signal=signal.SIGTERM,
        )
