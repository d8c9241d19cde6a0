"""What is compared: the model server itself, the reference monolith, Logue on each kind of broker.

Each has a PostgreSQL of its own, as durable as in production (fsync). Apache Kafka is a single broker here, and what it
acknowledges is in its page cache. The stand-in writes to disk once a second.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.measure import CpuClock

from logue_devstack.credentials import load_credentials
from logue_devstack.postgres import Postgres
from logue_devstack.server import LOOPBACK, Server, free_ports
from logue_devstack.service import Service
from logue_devstack.stack import Stack

_ROOT = Path(__file__).parents[2]
#: As many as a small machine has cores.
_MONOLITH_WORKERS = 2
#: The processes whose CPU time is that of the service: broker, database and model are there for it.
OWN = ("monolith", "gateway", "agent", "conversation")


@dataclass(frozen=True, slots=True)
class System:
    """A running one that speaks Logue's requests and events at its ports; the model speaks OpenAI's."""

    name: str
    ports: tuple[int, ...]
    token: Callable[[str], str]
    pids: Mapping[str, int] = field(default_factory=dict)
    #: Of its broker.
    bootstrap: str = ""

    @property
    def is_model(self) -> bool:
        return self.name == "model"

    @property
    def own(self) -> tuple[str, ...]:
        """Those of `pids` that do the work of the service itself."""
        return tuple(name for name in self.pids if name.startswith(OWN))

    def clock(self) -> CpuClock:
        """Of all its processes."""
        return CpuClock(self.pids)


@contextmanager
def model(folder: Path) -> Iterator[System]:
    """The model server that all others ask."""
    (port,) = free_ports(1)
    server = Service(
        "model",
        port,
        "tests.bench.model_server",
        arguments=["--port", str(port)],
        environment=_with_tests({}),
        log=folder / "model.log",
        ready_path="/v1/models",
    )
    with server:
        yield System("model", (port,), lambda _: "", _pids(server))


@contextmanager
def logue(
    folder: Path,
    broker: str,
    asked: System,
    *,
    gateways: int = 1,
    agents: int = 1,
    service_environment: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[System]:
    """Logue; a crash must show as errors, so nothing is started again."""
    stack = Stack(
        folder,
        broker=broker,
        gateways=gateways,
        agents=agents,
        restart_crashed=False,
        environment=_asking(asked),
        service_environment=service_environment,
    )
    with stack:
        pids = _pids(*(stack.server(name) for name in stack.names))
        yield System(
            f"logue-{broker}",
            stack.ports.gateways,
            lambda user: stack.token(user, seconds=36_000),
            pids,
            stack.kafka_bootstrap,
        )


@contextmanager
def monolith(folder: Path, asked: System) -> Iterator[System]:
    """The reference."""
    credentials = load_credentials(folder / "secrets.json")
    database_port, port = free_ports(2)
    with ExitStack() as running:
        postgres = running.enter_context(Postgres(folder / "postgres", database_port, log=folder / "postgres.log"))
        settings = {"DATABASE_URL": postgres.owner_url, "JWT_SECRET": credentials.jwt_secret, **_asking(asked)}
        web = running.enter_context(
            Service(
                "monolith",
                port,
                "uvicorn",
                arguments=[
                    "tests.bench.reference_monolith:app",
                    *("--host", LOOPBACK, "--port", str(port), "--workers", str(_MONOLITH_WORKERS)),
                    *("--app-dir", str(_ROOT), "--no-access-log", "--log-level", "warning"),
                ],
                environment=_with_tests(settings),
                log=folder / "monolith.log",
                ready_path="/openapi.json",
            )
        )
        yield System("monolith", (port,), lambda user: credentials.token(user, seconds=36_000), _pids(postgres, web))


def _asking(asked: System) -> dict[str, str]:
    return {"OPENAI_BASE_URL": f"http://{LOOPBACK}:{asked.ports[0]}/v1", "OPENAI_API_KEY": "none"}


def _with_tests(settings: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1", **settings}


def _pids(*servers: Server) -> dict[str, int]:
    return {server.name: server.child.id.pid for server in servers if server.child is not None}
