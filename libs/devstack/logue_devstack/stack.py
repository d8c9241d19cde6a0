"""Stack: the whole system on one machine, as an object. The `logue` command and the e2e tests are built on it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

from logue_devstack.blueprint import Blueprint, BrokerKind, kind_of
from logue_devstack.credentials import TOKEN_SECONDS, load_credentials
from logue_devstack.errors import DevstackError, InterruptedStartError
from logue_devstack.membership import SESSION_SECONDS, expire_members
from logue_devstack.ports import Ports
from logue_devstack.process import ProcessId, run, shown, wait_until
from logue_devstack.server import LOOPBACK, Server
from logue_devstack.service import python
from logue_devstack.state import ProcessEntry, StackLock, StackState, end_leftovers
from logue_devstack.watcher import Watcher

_STOP_ORDER = ({"gateway"}, {"agent"}, {"conversation"}, {"demo-model", "broker", "postgres"})
"""Kinds that stop together: an agent that drains still needs the model, the store and the broker."""
_ONE_SHOT_SECONDS = 60.0


class Stack:
    """PostgreSQL, a broker, the demo model and Logue's services, on loopback, with their data under `data_dir`.

    Blocking, and safe to call from any thread; in async tests use `asyncio.to_thread` for what waits. A process that
    dies is started again, unless `restart_crashed` is off or it was ended by `kill(name, restart=False)`.
    Methods raise DevstackError with a sentence for the user.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        broker: BrokerKind | str = BrokerKind.NOIDA,
        gateways: int = 1,
        agents: int = 1,
        ports: Ports | None = None,
        fast_postgres: bool = False,
        environment: Mapping[str, str] | None = None,
        service_environment: Mapping[str, Mapping[str, str]] | None = None,
        routes: Mapping[tuple[str, str], str] | None = None,
        brokers: Callable[[Blueprint], Sequence[Server]] | None = None,
        restart_crashed: bool = True,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.ports = ports or Ports.random(gateways, agents)
        self.stopping = threading.Event()
        self.credentials = load_credentials(self.data_dir / "secrets.json")
        self.blueprint = Blueprint(
            data_dir=self.data_dir,
            broker=BrokerKind(broker),
            ports=self.ports,
            credentials=self.credentials,
            stopping=self.stopping,
            fast_postgres=fast_postgres,
            environment=environment or {},
            service_environment=service_environment or {},
            routes=routes or {},
            brokers=brokers,
        )
        self._report = report
        self._watcher = Watcher(self.launch, report, self._expire_members) if restart_crashed else None
        self._servers: dict[str, Server] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._state_lock = threading.Lock()
        self._held = ExitStack()
        self._paused: dict[str, threading.Timer] = {}

    # What there is

    @property
    def gateway_urls(self) -> list[str]:
        return [f"http://{LOOPBACK}:{port}" for port in self.ports.gateways]

    @property
    def conversation_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports.conversation}"

    @property
    def demo_model_url(self) -> str:
        """The server's root: `/v1/…` and `/demo/calls` are below it."""
        return f"http://{LOOPBACK}:{self.ports.demo_model}"

    @property
    def kafka_bootstrap(self) -> str:
        return self.blueprint.bootstrap

    @property
    def names(self) -> list[str]:
        """Every process by name: postgres, broker, demo-model, conversation, agent-0…, gateway-0….

        Where there are several brokers or conversation services, these are numbered too.
        """
        return list(self._servers)

    def server(self, name: str) -> Server:
        try:
            return self._servers[name]
        except KeyError:
            raise DevstackError(f"The stack has no process {name}, only {', '.join(self._servers)}.") from None

    def log(self, name: str) -> Path:
        """The log file of a process."""
        return self.blueprint.log(name)

    def token(self, user_id: str = "user-1", *, seconds: float = TOKEN_SECONDS) -> str:
        """A token that this stack's gateways accept."""
        return self.credentials.token(user_id, seconds=seconds)

    # Up and down

    def start(self) -> None:
        """Brings everything up and returns when all of it is ready. On failure nothing is left running."""
        self._held.enter_context(StackLock(self.data_dir))
        store, logs = shown(self.blueprint.store), shown(self.data_dir / "logs")
        self._report(f"Logue starts with the broker {self.blueprint.broker}; data in {store}, logs in {logs}")
        try:
            self._start_all()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends every process that this stack started, gateways first, and only those."""
        self.stopping.set()
        if self._watcher is not None:
            self._watcher.stop()
        for kinds in _STOP_ORDER:
            servers = [server for server in self._servers.values() if kind_of(server.name) in kinds]
            self._side_by_side(*(partial(self._stop, server) for server in servers))
        self._state_file.unlink(missing_ok=True)
        self._held.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # One process

    def kill(self, name: str, *, restart: bool = True) -> None:
        """SIGKILL. It comes back by itself unless `restart` is False; then `start_one` brings it back."""
        with self._locks[self.server(name).name]:
            if self._watcher is not None and not restart:
                self._watcher.forget(name)
            server = self.server(name)
            server.kill()
            self._expire_members(server)

    def stop_one(self, name: str) -> None:
        """Ends it gracefully; it stays down until `start_one`."""
        with self._locks[self.server(name).name]:
            if self._watcher is not None:
                self._watcher.forget(name)
            server = self.server(name)
            server.stop()
            self._expire_members(server)

    def start_one(self, name: str) -> None:
        """Starts what is down and returns when it is ready."""
        with self._locks[self.server(name).name]:
            self.launch(name)
            self.server(name).wait_ready()
        if self._watcher is not None:
            self._watcher.watch(self.server(name))

    def launch(self, name: str) -> None:
        """Starts what is down, and returns before it is ready; nothing watches it that did not before."""
        server = self.server(name)
        with self._locks[name]:
            if server.is_running or self.stopping.is_set():
                return
            server.launch()
            self._write_state()
            if self._loses_topics(server):
                server.wait_ready()
                self.ensure_topics()

    def restart(self, name: str) -> None:
        """Ends it gracefully, starts it and returns when it is ready again."""
        self.stop_one(name)
        self.start_one(name)

    def pause(self, name: str) -> None:
        """SIGSTOP, as if its machine froze: after its session timeout its group goes on without it."""
        server = self.server(name)
        server.pause()
        timer = threading.Timer(SESSION_SECONDS, self._expire_members, (server,))
        timer.daemon = True
        self._paused[name] = timer
        timer.start()

    def resume(self, name: str) -> None:
        """SIGCONT after `pause`."""
        if (timer := self._paused.pop(name, None)) is not None:
            timer.cancel()
        self.server(name).resume()

    def wait_ready(self, *names: str) -> None:
        """Returns when these processes, or all, are running and ready."""
        for name in names or self.names:
            with self._locks[name]:
                self.start_one(name)

    # How it is done

    def _loses_topics(self, server: Server) -> bool:
        """The stand-in may have lost its topics with its tail, so they are made again."""
        return self.blueprint.broker is BrokerKind.NOIDA and kind_of(server.name) == "broker"

    def _expire_members(self, server: Server) -> None:
        """A real Kafka does this by itself."""
        if self.blueprint.broker is BrokerKind.NOIDA and server.child is not None:
            expire_members(self.kafka_bootstrap, server.child.id.pid)

    @property
    def _state_file(self) -> Path:
        return self.data_dir / "state.json"

    def _start_all(self) -> None:
        if ended := end_leftovers(StackState.read(self._state_file)):
            self._report(f"  ended what an earlier run had left: {', '.join(ended)}")
        plan = self.blueprint
        postgres, brokers, services = plan.postgres(), plan.broker_servers(), plan.services()
        demo_model = [plan.demo_model()] if plan.wants_demo_model else []
        self._add([postgres, *brokers, *demo_model, *services])
        for server in self._servers.values():
            server.check()
        topics_exist = threading.Event()

        def database() -> None:
            self._start(postgres)
            self._migrate()
            wait_until(topics_exist.is_set, _ONE_SHOT_SECONDS, self.stopping)
            self._start_side_by_side(service for service in services if kind_of(service.name) == "conversation")

        def log() -> None:
            self._start_side_by_side(brokers)
            self.ensure_topics()
            topics_exist.set()
            self._start_side_by_side(service for service in services if kind_of(service.name) != "conversation")

        self._side_by_side(database, log, lambda: self._start_side_by_side(demo_model))
        if self._watcher is not None:
            self._watcher.start(self._servers.values())

    def _add(self, servers: Iterable[Server]) -> None:
        for server in servers:
            self._servers[server.name] = server
            self._locks[server.name] = threading.RLock()

    def _start(self, server: Server) -> None:
        with self._locks[server.name]:
            begun = time.monotonic()
            server.prepare()
            server.launch()
            self._write_state()
            server.wait_ready()
            server.after_ready()
        self._tell(server.name, begun, f"{LOOPBACK}:{server.port}")

    def _start_side_by_side(self, servers: Iterable[Server]) -> None:
        self._side_by_side(*(partial(self._start, server) for server in servers))

    def _stop(self, server: Server) -> None:
        with self._locks[server.name]:
            server.stop()

    def ensure_topics(self) -> None:
        """Creates the topics that are missing."""
        self._run_module("topics", "logue_common.topics")

    def _migrate(self) -> None:
        """Runs the migrations, unless the same ones ran on this database before: their imports alone take a second."""
        stamp = self.blueprint.postgres().data_dir / "logue-migrations"  # goes when the cluster goes
        wanted = self.blueprint.migrations_digest()
        if not stamp.exists() or stamp.read_text() != wanted:
            self._run_module("migrations", "logue_conversation.migrate")
            stamp.write_text(wanted)

    def _run_module(self, name: str, module: str) -> None:
        begun = time.monotonic()
        command = python(module, environment=self.blueprint.command_environment(name), log=self.log(name))
        run(name, command, timeout_seconds=_ONE_SHOT_SECONDS, stopping=self.stopping)
        self._tell(name, begun)

    def _side_by_side(self, *steps: Callable[[], None]) -> None:
        """Runs the steps in threads. When some fail, the others are given up and the cause is raised."""
        if not steps:
            return
        with ThreadPoolExecutor(max_workers=len(steps)) as pool:
            futures = [pool.submit(step) for step in steps]
            wait(futures, return_when="FIRST_EXCEPTION")
            if any(future.done() and future.exception() for future in futures):
                self.stopping.set()
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, InterruptedStartError)):
            raise error  # the cause before those who were given up because of it

    def _write_state(self) -> None:
        entries = {
            server.name: ProcessEntry(server.child.id, server.port, str(server.child.log))
            for server in list(self._servers.values())
            if server.child is not None
        }
        own = ProcessId.of(os.getpid())
        if own is not None:
            with self._state_lock:
                StackState(own, self.blueprint.broker, self.gateway_urls, entries).write(self._state_file)

    def _tell(self, name: str, begun: float, where: str = "") -> None:
        self._report(f"  {name:<13} ready after {time.monotonic() - begun:4.1f} s   {where}".rstrip())
