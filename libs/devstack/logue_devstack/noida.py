"""The stand-in broker: noida-db speaks the Kafka protocol in one small native process.

It is for development only: kill -9 loses up to about a second of acknowledged records and reuses their offsets
(docs/adr on the embedded broker). SIGTERM loses nothing.

It also forgets to whom it gave producer ids in that second, and gives the same ones again. Then two producers count
their records under one id, and what looks like a repetition of the other's is acknowledged and dropped. So after a
crash a few hundred ids are spent where no client can see it, before the broker is back on its port.
"""

from __future__ import annotations

import signal
import socket
import struct
import threading
from importlib.resources import files
from pathlib import Path

from logue_devstack.errors import DevstackError
from logue_devstack.process import Command
from logue_devstack.server import LOOPBACK, Server, free_ports

_INIT_PRODUCER_ID = 22
_SPENT_IDS = 500
_TIMEOUT_SECONDS = 5.0


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

    def launch(self) -> None:
        """Starts the process without waiting for it, but for a second's care after a crash."""
        if self.child is not None and self.child.returncode() not in (None, 0, -signal.SIGTERM):
            with NoidaBroker(self.data_dir, *free_ports(1), log=self.log, stopping=self.stopping) as hidden:
                _spend_producer_ids(hidden.port)
        super().launch()

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


def _spend_producer_ids(port: int) -> None:
    """InitProducerId v0 (Kafka protocol guide), many times."""
    request = struct.pack(">hhihhi", _INIT_PRODUCER_ID, 0, 1, -1, -1, 0)  # no client id, no transactional id
    try:
        with (
            socket.create_connection((LOOPBACK, port), timeout=_TIMEOUT_SECONDS) as connection,
            connection.makefile("rb") as answers,
        ):
            for _ in range(_SPENT_IDS):
                connection.sendall(struct.pack(">i", len(request)) + request)
                answer = answers.read(int.from_bytes(answers.read(4), "big"))
                _correlation, _throttle, error = struct.unpack_from(">iih", answer)
                if error:
                    raise DevstackError(
                        f"broker gave no producer id (error {error}); run `logue reset` if it stays so."
                    )
    except (OSError, struct.error) as error:
        raise DevstackError(f"broker gave no producer ids ({error!r}).") from error
