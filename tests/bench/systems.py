"""What is compared: the model itself, the reference monolith, Logue on each kind of broker. One runs at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import CpuClock

from logue_devstack.credentials import Credentials, load_credentials
from logue_devstack.postgres import Postgres
from logue_devstack.server import LOOPBACK, free_ports
from logue_devstack.service import Service
from logue_devstack.stack import Stack

_ROOT = Path(__file__).parents[2]
#: The processes whose CPU time is "the service": everything else (broker, database, model) is there for it.
OWN = {"monolith": ("monolith",), "logue": ("gateway-0", "agent-0", "conversation")}
_WORKERS = 2


@dataclass(frozen=True, slots=True)
class System:
    """A running one. Speaks Logue's requests and events at `port`."""

    name: str
    port: int
    token: Callable[[str], str]
    pids: Mapping[str, int]
    #: Those of `pids` that do the work of the service itself.
    own: tuple[str, ...]

    def clock(self) -> CpuClock:
        """Of all its processes."""
        return CpuClock(self.pids)


@contextmanager
def logue(folder: Path, broker: str) -> Iterator[System]:
    """Logue, one process of each service; a crash must show as errors, so nothing is started again."""
    with Stack(folder, broker=broker, restart_crashed=False) as stack:
        pids = {name: child.id.pid for name in stack.names if (child := stack.server(name).child) is not None}
        yield System(f"logue on {broker}", stack.ports.gateways[0], stack.token, pids, OWN["logue"])


@contextmanager
def monolith(folder: Path) -> Iterator[System]:
    """The reference, with as many workers as a small machine has cores."""
    credentials: Credentials = load_credentials(folder / "secrets.json")
    database_port, model_port, port = free_ports(3)
    with ExitStack() as running:
        postgres = running.enter_context(Postgres(folder / "postgres", database_port, log=folder / "postgres.log"))
        model = running.enter_context(
            Service(
                "demo-model",
                model_port,
                "logue_devstack.demo_model",
                arguments=["--port", str(model_port)],
                environment={},
                log=folder / "demo-model.log",
                ready_path="/v1/models",
            )
        )
        web = running.enter_context(
            Service(
                "monolith",
                port,
                "uvicorn",
                arguments=[
                    "tests.bench.reference_monolith:app",
                    *("--host", LOOPBACK, "--port", str(port), "--workers", str(_WORKERS)),
                    *("--app-dir", str(_ROOT), "--no-access-log", "--log-level", "warning"),
                ],
                environment={
                    "DATABASE_URL": postgres.owner_url,
                    "JWT_SECRET": credentials.jwt_secret,
                    "OPENAI_BASE_URL": f"http://{LOOPBACK}:{model_port}/v1",
                    "OPENAI_API_KEY": "none",
                },
                log=folder / "monolith.log",
                ready_path="/openapi.json",
            )
        )
        servers = {"postgres": postgres, "demo-model": model, "monolith": web}
        pids = {name: server.child.id.pid for name, server in servers.items() if server.child is not None}
        yield System("monolith", port, credentials.token, pids, OWN["monolith"])
