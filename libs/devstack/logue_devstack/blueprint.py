"""Which servers make up a stack, and the environment that wires them together."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from logue_devstack.apache_kafka import ApacheKafka
from logue_devstack.credentials import Credentials
from logue_devstack.noida import NoidaBroker
from logue_devstack.ports import Ports
from logue_devstack.postgres import Postgres
from logue_devstack.server import LOOPBACK, Server
from logue_devstack.service import Service


class BrokerKind(StrEnum):
    """The broker to run."""

    NOIDA = "noida"
    APACHE = "apache"


def kind_of(name: str) -> str:
    """ "agent" for "agent-0", "demo-model" for itself."""
    return name.rstrip("0123456789").rstrip("-")


#: Shorter than in production: whoever presses Ctrl-C waits for it.
_DRAIN_SECONDS = 5
#: Enough for as many agents; each partition costs a little with every fetch, which a single agent pays for all.
_PARTITIONS = 6


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a stack is to consist of.

    `environment` goes to every process; `service_environment` to those named so ("agent-0"), or of that kind ("agent"),
    the commands "topics" and "migrations" included.
    `routes` says where one process, or kind, reaches a kind otherwise than directly: `("agent", "conversation")` to
    "host:port" (or, for the broker, several with commas). `brokers` makes the nodes of a cluster in the broker's place;
    their `port` is the one for who has no route.
    """

    data_dir: Path
    broker: BrokerKind
    ports: Ports
    credentials: Credentials
    stopping: threading.Event
    fast_postgres: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    service_environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    routes: Mapping[tuple[str, str], str] = field(default_factory=dict)
    brokers: Callable[[Blueprint], Sequence[Server]] | None = None

    @property
    def store(self) -> Path:
        """Log and database belong together, so each kind of broker has its own pair."""
        return self.data_dir / self.broker

    def log(self, name: str) -> Path:
        return self.data_dir / "logs" / f"{name}.log"

    @property
    def bootstrap(self) -> str:
        """The brokers, reached directly."""
        return ",".join(f"{LOOPBACK}:{broker.port}" for broker in self.broker_servers())

    def address(self, kind: str, *, seen_by: str) -> str:
        """Where the process named `seen_by` reaches a kind of process."""
        direct = {
            "broker": self.bootstrap,
            "conversation": f"{LOOPBACK}:{self.ports.conversation}",
            "demo-model": f"{LOOPBACK}:{self.ports.demo_model}",
            "postgres": f"{LOOPBACK}:{self.ports.postgres}",
        }
        of_kind = self.routes.get((kind_of(seen_by), kind), direct[kind])
        return self.routes.get((seen_by, kind), of_kind)

    @property
    def wants_demo_model(self) -> bool:
        """Only when no other model server is chosen."""
        chosen = {**os.environ, **self.environment}
        return not (chosen.get("OPENAI_API_KEY") or chosen.get("OPENAI_BASE_URL"))

    def migrations_digest(self) -> str:
        """Changes when the migrations, or the passwords that they set, do."""
        spec = find_spec("logue_conversation")
        folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
        sources = sorted(
            path
            for folder in folders
            for path in (*folder.glob("*.py"), *folder.glob("migrations/**/*"))
            if path.suffix in {".py", ".sql", ".mako", ".ini"}
        )
        digest = sha256(self.credentials.model_dump_json().encode())
        for path in sources:
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def postgres(self) -> Postgres:
        return Postgres(
            self.store / "postgres",
            self.ports.postgres,
            owner_password=self.credentials.postgres_owner,
            superuser_password=self.credentials.postgres_superuser,
            fast=self.fast_postgres,
            log=self.log("postgres"),
            stopping=self.stopping,
        )

    def broker_servers(self) -> Sequence[Server]:
        """One, or the nodes of a cluster."""
        return self.brokers(self) if self.brokers is not None else [self._single_broker()]

    def _single_broker(self) -> NoidaBroker | ApacheKafka:
        folder, log = self.store / "broker", self.log("broker")
        if self.broker is BrokerKind.NOIDA:
            return NoidaBroker(folder, self.ports.broker, log=log, stopping=self.stopping)
        return ApacheKafka(
            folder,
            self.ports.broker,
            controller_port=self.ports.broker_controller,
            log=log,
            stopping=self.stopping,
        )

    def demo_model(self) -> Service:
        return Service(
            "demo-model",
            self.ports.demo_model,
            "logue_devstack.demo_model",
            arguments=["--port", str(self.ports.demo_model)],
            environment=self._with_overrides("demo-model", {}),
            log=self.log("demo-model"),
            ready_path="/v1/models",
            stopping=self.stopping,
        )

    def services(self) -> list[Service]:
        """Conversation services (numbered when there are several), agents, gateways: as they are listed."""
        conversations = self.ports.conversations
        numbered = [f"conversation-{i}" for i in range(len(conversations))]
        names = numbered if len(numbered) > 1 else ["conversation"]
        return [
            *(
                self._service(name, port, "logue_conversation", {})
                for name, port in zip(names, conversations, strict=True)
            ),
            *(self._service(f"agent-{i}", port, "logue_agent", {}) for i, port in enumerate(self.ports.agents)),
            *(
                self._service(f"gateway-{i}", port, "logue_devstack.gateway", {"LOGUE_GATEWAY_INDEX": str(i)})
                for i, port in enumerate(self.ports.gateways)
            ),
        ]

    def _service(self, name: str, port: int, module: str, own: Mapping[str, str]) -> Service:
        kind = kind_of(name).upper()
        address = {f"LOGUE_{kind}_HOST": LOOPBACK, f"LOGUE_{kind}_PORT": str(port)}
        return Service(
            name,
            port,
            module,
            environment=self._with_overrides(name, address | dict(own)),
            log=self.log(name),
            stopping=self.stopping,
        )

    def command_environment(self, name: str) -> dict[str, str]:
        """Of what runs once and ends: "topics", "migrations"."""
        return self._with_overrides(name, {})

    def _with_overrides(self, name: str, own: Mapping[str, str]) -> dict[str, str]:
        kind = kind_of(name)
        overrides = {**self.service_environment.get(kind, {}), **self.service_environment.get(name, {})}
        return {**self.shared_environment(name), **own, **overrides}

    def shared_environment(self, name: str) -> dict[str, str]:
        """Ours, passed on, and the wiring; each kind of process gets only the secrets that it needs."""
        kind, secrets, postgres = kind_of(name), self.credentials, self.postgres()
        wiring = {
            "LOGUE_KAFKA_BOOTSTRAP": self.address("broker", seen_by=name),
            "LOGUE_INTERNAL_TOKEN": secrets.internal_token,
            "LOGUE_CONVERSATION_URL": f"http://{self.address('conversation', seen_by=name)}",
            "LOGUE_TOPIC_PARTITIONS": os.environ.get("LOGUE_TOPIC_PARTITIONS", str(_PARTITIONS)),
        }
        database = partial(postgres.url, address=self.address("postgres", seen_by=name))
        roles = {
            "LOGUE_DATABASE_URL": database("logue_api", secrets.postgres_api),
            "LOGUE_DATABASE_WRITER_URL": database("logue_writer", secrets.postgres_writer),
            "LOGUE_DATABASE_RELAY_URL": database("logue_relay", secrets.postgres_relay),
        }
        if kind == "gateway":
            wiring |= {
                "LOGUE_JWT_SECRET": secrets.jwt_secret,
                "LOGUE_EVENT_ID_SECRET": secrets.event_id_secret,
            }
        elif kind == "agent":
            wiring |= {"LOGUE_AGENT_DRAIN_SECONDS": str(_DRAIN_SECONDS)}
            if self.wants_demo_model:
                model = f"http://{self.address('demo-model', seen_by=name)}/v1"
                wiring |= {"OPENAI_BASE_URL": model, "OPENAI_API_KEY": "demo"}
        elif kind == "conversation":
            wiring |= roles
        elif kind == "migrations":
            wiring |= roles | {"LOGUE_DATABASE_OWNER_URL": postgres.owner_url}
        return {**os.environ, "PYTHONUNBUFFERED": "1", **wiring, **self.environment}
