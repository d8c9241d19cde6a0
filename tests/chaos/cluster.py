"""The whole system, with three brokers, and a grip on every part of it: kill, freeze, cut off, clock, disk.

    with Cluster(folder, seed=1) as cluster:
        cluster.kill("broker-1")
        cluster.proxy.blackhole("agent-*>conversation")

Every connection between two processes passes a link of `cluster.proxy`, called `<from>><to>` by the names of processes:
`gateway-0>broker-1`, `broker-1>broker-2` (replication), `broker-1>broker-2:controller`, `gateway-0>conversation` (to
either of the two), `agent-0>conversation`, `conversation-0>postgres`, `agent-0>demo-model`, `client>gateway-0`. So
`"broker-1>*"` and `"*>broker-1*"` cut a broker off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.chaos.brokers import Brokers
from tests.chaos.clocks import Clocks
from tests.chaos.disk import Disk
from tests.chaos.proxy import Proxy

from logue_devstack.apache_kafka import ApacheKafka, jar_folder, missing_tools
from logue_devstack.blueprint import BrokerKind, kind_of
from logue_devstack.credentials import TOKEN_SECONDS
from logue_devstack.errors import DevstackError
from logue_devstack.kafka_metadata import read_metadata
from logue_devstack.ports import Ports
from logue_devstack.postgres import Postgres
from logue_devstack.process import shown, tail
from logue_devstack.server import LOOPBACK, Server
from logue_devstack.stack import Stack

_LOOK_SECONDS = 0.1
_SERVICES = ("gateway-0", "gateway-1", "agent-0", "agent-1", "conversation-0", "conversation-1")
#: What the services talk to besides the brokers.
_CALLS = (
    *((service, "conversation") for service in _SERVICES[:4]),
    *((service, "demo-model") for service in _SERVICES[2:4]),
    *((service, "postgres") for service in _SERVICES[4:]),
)


def missing() -> list[str]:
    """What this machine lacks to run a cluster, a sentence each."""
    problem = missing_tools(jar_folder())
    return [] if problem is None else [problem]


class Cluster:
    """Three brokers, PostgreSQL, the demo model, two gateways, two agents, two conversation services.

    Nothing restarts by itself. Blocking, and safe to call from any thread. Everything ends with the `with` block, the
    hard way; the logs stay in `folder`. `environment` goes to all, `service_environment` to processes or kinds by name,
    `kafka_settings` are added to every server.properties. Methods raise DevstackError with a sentence.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int = 0,
        environment: Mapping[str, str] | None = None,
        service_environment: Mapping[str, Mapping[str, str]] | None = None,
        kafka_settings: Mapping[str, str] | None = None,
        heap_mib: int = 256,
        disk_mib: int = 512,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder = folder.absolute()
        self.proxy = Proxy(self.folder / "logs", seed=seed)
        self._environment = {"LOGUE_TOPIC_REPLICATION_FACTOR": "3", **(environment or {})}
        self._service_environment = service_environment or {}
        self._kafka_settings = kafka_settings or {}
        self._heap_mib = heap_mib
        self._disk = Disk(self.folder / BrokerKind.APACHE / "postgres", disk_mib)
        self._clocks = Clocks(self.folder / "clocks")
        self._report = report
        self._running = ExitStack()
        self._stack: Stack

    # What there is

    def names(self, kind: str | None = None) -> list[str]:
        """Every process, or those of a kind: broker, postgres, demo-model, gateway, agent, conversation."""
        return [name for name in self._stack.names if kind in {None, kind_of(name)}]

    def is_running(self, name: str) -> bool:
        """Whether there is such a process now, paused or not."""
        return self._stack.server(name).is_running

    def pid(self, name: str) -> int:
        child = self._stack.server(name).child
        if child is None or child.returncode() is not None:
            raise DevstackError(f"{name} does not run.")
        return child.id.pid

    def port(self, name: str) -> int:
        """Where it listens, past every link."""
        return self._stack.server(name).port

    def log(self, name: str) -> Path:
        """Its output, over all its lives."""
        return self._stack.log(name)

    def token(self, user_id: str = "user-1", *, seconds: float = TOKEN_SECONDS) -> str:
        return self._stack.token(user_id, seconds=seconds)

    @property
    def gateway_urls(self) -> list[str]:
        """Through the links of the client."""
        links = [f"client>{name}" for name in self.names("gateway")]
        return [f"http://{LOOPBACK}:{self.proxy.port_of(link)}" for link in links]

    @property
    def direct_gateway_urls(self) -> list[str]:
        return self._stack.gateway_urls

    @property
    def kafka_bootstrap(self) -> str:
        """The brokers, past every link: for the eyes of tests."""
        return self._stack.kafka_bootstrap

    @property
    def demo_model_url(self) -> str:
        """The server's root, past every link."""
        return self._stack.demo_model_url

    @property
    def postgres(self) -> Postgres:
        """Past every link: `sql`, `owner_url`."""
        server = self._stack.server("postgres")
        assert isinstance(server, Postgres)
        return server

    # What happens to it

    def kill(self, name: str) -> None:
        """SIGKILL, to PostgreSQL's backends too."""
        self._stack.kill(name)

    def stop(self, name: str) -> None:
        """Gracefully, within the time that `logue down` grants. A broker without a quorum does not manage to."""
        self._stack.stop_one(name)

    def start(self, name: str) -> None:
        """Starts what is down, and returns before it is ready (a single broker of three never is)."""
        self._stack.launch(name)

    def restart(self, name: str, *, timeout: float = 60.0) -> None:
        """Stops, starts, and returns when it is ready."""
        self.stop(name)
        self.start(name)
        self.wait_ready(name, timeout=timeout)

    def pause(self, name: str) -> None:
        """SIGSTOP, to PostgreSQL's backends too: a frozen machine, whose connections stay."""
        self._stack.pause(name)

    def resume(self, name: str) -> None:
        self._stack.resume(name)

    def wait_ready(self, *names: str, timeout: float = 60.0) -> None:
        """Returns when these, or all, are ready: a broker when all its replicas are in sync again.

        Raises DevstackError at once for what does not run, and for what is not ready in time.
        """
        deadline = time.monotonic() + timeout
        for name in names or self.names():
            server = self._stack.server(name)
            while not self._is_ready(server):
                if not server.is_running:
                    raise DevstackError(
                        f"{name} does not run; its log {shown(self.log(name))} ends:\n{self._end(name)}"
                    )
                if time.monotonic() > deadline:
                    raise DevstackError(
                        f"{name} was not ready after {timeout:.0f} s; see {shown(self.log(name))}.\n{self._end(name)}"
                    )
                time.sleep(_LOOK_SECONDS)

    def clock_jump(self, name: str, seconds: float) -> None:
        """From now on (in two seconds at most) its clock is so far off the true time; 0 puts it right.

        Only wall clocks jump: timers go by the monotonic one, as on a machine whose time is set. Services only.
        """
        self._clocks.set(name, seconds)

    def fill_disk(self) -> None:
        """PostgreSQL can write no more. It may end itself then; see `is_running`."""
        self._disk.fill()

    def free_disk(self) -> None:
        """There is space again."""
        self._disk.free()

    # Up and down

    def start_all(self) -> None:
        """Brings everything up and returns when all of it is ready. On failure nothing is left."""
        if problems := missing():
            raise DevstackError(" ".join(problems))
        try:
            self._running.enter_context(self.proxy)
            self._running.enter_context(self._disk)
            self._stack = self._wire()
            self._running.callback(self._stack.stop)
            self._running.callback(self._kill_all)
            self._stack.start()
            self._disk.settle(self.postgres)
            self.wait_ready()
        except BaseException:
            self._running.close()
            raise

    def stop_all(self) -> None:
        """Ends every process, and takes the disk away."""
        self._running.close()

    def __enter__(self) -> Self:
        self.start_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_all()

    # How it is done

    def _wire(self) -> Stack:
        ports = Ports.random(gateways=2, agents=2, conversations=2)
        brokers = Brokers(self.proxy, _SERVICES, settings=self._kafka_settings, heap_mib=self._heap_mib)
        targets = {
            "conversation": list(ports.conversations),
            "demo-model": [ports.demo_model],
            "postgres": [ports.postgres],
        }
        routes = {(service, "broker"): brokers.bootstrap(service) for service in _SERVICES}
        for service, kind in _CALLS:
            routes[service, kind] = f"{LOOPBACK}:{self.proxy.link(f'{service}>{kind}', targets[kind])}"
        for number, port in enumerate(ports.gateways):
            self.proxy.link(f"client>gateway-{number}", port)
        return Stack(
            self.folder,
            broker=BrokerKind.APACHE,
            ports=ports,
            environment=self._environment,
            service_environment={
                **self._service_environment,
                **{name: {**self._clocks.add(name), **self._service_environment.get(name, {})} for name in _SERVICES},
            },
            routes=routes,
            brokers=brokers.servers,
            restart_crashed=False,
            report=self._report,
        )

    def _is_ready(self, server: Server) -> bool:
        if not server.is_running or not server.is_ready():
            return False
        return not isinstance(server, ApacheKafka) or self._is_in_sync(server.node_id)

    def _is_in_sync(self, node_id: int) -> bool:
        """Most brokers say so: one that was cut off, asked alone, does not know yet what it missed."""
        servers = [self._stack.server(name) for name in self.names("broker")]
        views = [read_metadata(server.port) for server in servers if server.is_running]
        agreeing = [view for view in views if view is not None and node_id in view.brokers - view.out_of_sync]
        return len(agreeing) > len(servers) / 2

    def _end(self, name: str) -> str:
        return tail(self.log(name))

    def _kill_all(self) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.kill, self.names()))
