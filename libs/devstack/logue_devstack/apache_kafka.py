"""A real Apache Kafka (KRaft): one node, alone or of a cluster. Its jars come by Maven coordinates (kafka-pom.xml)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from logue_devstack.errors import DevstackError
from logue_devstack.kafka_metadata import read_metadata
from logue_devstack.process import Command, run
from logue_devstack.server import LOOPBACK, Server, require_free_port

POM = Path(__file__).with_name("kafka-pom.xml")
_HEAP_MIB = 384
_fetching = threading.Lock()  # the nodes of a cluster start side by side
_MAX_MESSAGE_BYTES = 5 * 1024 * 1024  # records are up to 4 MiB (DESIGN.md), plus the batch around them


class ApacheKafka(Server):
    """One broker and controller on `port` (and `controller_port` for itself), with its log under `data_dir`.

    As a node of a cluster it gets `settings` (server.properties, but for where its data is) and the cluster's id; then
    `port` is one of its listeners, at which it is asked whether it is ready. `format_options` are for StorageTool
    (`--add-scram …`: users that are there from the start).

    Jars are cached in `jars`, or `$LOGUE_KAFKA_JARS`, or `.logue/apache-kafka/<version>` of the working directory.
    """

    stop_seconds: ClassVar[float] = 30.0
    ready_seconds: ClassVar[float] = 60.0

    def __init__(
        self,
        data_dir: Path,
        port: int,
        *,
        controller_port: int | None = None,
        name: str = "broker",
        settings: Mapping[str, str] | None = None,
        cluster_id: str | None = None,
        format_options: Sequence[str] = (),
        heap_mib: int = _HEAP_MIB,
        jvm_options: Sequence[str] = (),
        jars: Path | None = None,
        log: Path | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        super().__init__(name, port, stopping=stopping)
        self.data_dir = data_dir.absolute()
        self.settings = settings or broker_settings(port, controller_port or port + 1)
        self.jars = (jars or jar_folder()).absolute()
        self.log = log or self.data_dir / "broker.log"
        self._cluster_id = cluster_id
        self._format_options = format_options
        self._heap_mib = heap_mib
        self._jvm_options = jvm_options

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def node_id(self) -> int:
        return int(self.settings["node.id"])

    def prepare(self) -> None:
        """Fetches the jars and formats the storage, the first time."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        fetch_jars(self.jars, log=self.log, stopping=self.stopping)
        settings = {**self.settings, "log.dirs": str(self.data_dir / "log")}
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        if not (self.data_dir / "log" / "meta.properties").exists():
            cluster_id = self._cluster_id or new_cluster_id()
            config = ("--cluster-id", cluster_id, "--config", str(self._properties))
            format_storage = ("format", *config, *self._format_options)
            java = self._java("kafka.tools.StorageTool", *format_storage, heap_mib=64)
            run("Kafka's StorageTool", java, timeout_seconds=60, stopping=self.stopping)

    def check(self) -> None:
        for listener, port in re.findall(r"(\w+)://[^,]*:(\d+)", self.settings["listeners"]):
            require_free_port(f"{self.name} (listener {listener})", int(port))
        if (problem := missing_tools(self.jars)) is not None:
            raise DevstackError(problem)

    def command(self) -> Command:
        return self._java("kafka.Kafka", str(self._properties), heap_mib=self._heap_mib)

    def is_ready(self) -> bool:
        """It listens, and its cluster counts it among the live ones: from then on topics can be made on it."""
        metadata = read_metadata(self.port)
        return metadata is not None and self.node_id in metadata.brokers

    @property
    def _properties(self) -> Path:
        return self.data_dir / "server.properties"

    def _java(self, main_class: str, *arguments: str, heap_mib: int) -> Command:
        return Command(
            argv=[
                _require("java"),
                *(f"-Xms{heap_mib}m", f"-Xmx{heap_mib}m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"),
                # Without the optimising compiler, which competes with everybody else for the first minutes: two thirds
                # of the CPU to start and at 60 turns a second, half of it at saturation.
                "-XX:TieredStopAtLevel=1",
                # And the other one sooner: a way through a log that was just started takes 1.8 ms rather than 2.6.
                "-XX:CompileThresholdScaling=0.1",
                *self._jvm_options,
                *("-Djava.awt.headless=true", "-Dfile.encoding=UTF-8"),
                *("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"),
                "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
                *("-cp", f"{self.jars}/*", main_class, *arguments),
            ],
            log=self.log,
            directory=self.data_dir,
            death_signal=signal.SIGTERM,
        )


def broker_settings(port: int, controller_port: int) -> dict[str, str]:
    """server.properties of a single node on loopback, but for where its data is."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # After kill -9 the broker must wait until its former self's session is over: 9 s by default.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "1000",
        "message.max.bytes": str(_MAX_MESSAGE_BYTES),
        "replica.fetch.max.bytes": str(_MAX_MESSAGE_BYTES),
    }


def new_cluster_id() -> str:
    """A random one; it does not begin with a dash, which StorageTool would take for an option."""
    return "L" + urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()[1:]


def kafka_version() -> str:
    """The version of Apache Kafka that the pom pins."""
    found = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>([^<]+)</version>", POM.read_text())
    if found is None:
        raise DevstackError(f"{POM.name} names no version of Apache Kafka.")
    return found[1]


def jar_folder() -> Path:
    """Where the jars are, or will be."""
    chosen = os.environ.get("LOGUE_KAFKA_JARS")
    return Path(chosen) if chosen else Path(".logue") / "apache-kafka" / kafka_version()


def missing_tools(jars: Path | None = None) -> str | None:
    """A sentence on what Apache Kafka needs and this machine lacks; None when it can run."""
    folder = jars or jar_folder()
    if shutil.which("java") is None:
        return "Apache Kafka needs Java 17 or newer, but there is no `java` here (Debian: default-jre-headless)."
    if not _is_complete(folder) and shutil.which("mvn") is None:
        return "Apache Kafka is fetched by Maven, but there is no `mvn` here (Debian: maven)."
    return None


def fetch_jars(folder: Path, *, log: Path, stopping: threading.Event | None = None) -> None:
    """Puts the jars into the folder unless they are there. Raises DevstackError, with the cause, when it cannot."""
    if (problem := missing_tools(folder)) is not None:
        raise DevstackError(problem)
    _require_java_17()
    with _fetching:
        if not _is_complete(folder):
            _fetch(folder.absolute(), log=log, stopping=stopping)  # Maven takes a relative one as relative to the POM


def _fetch(folder: Path, *, log: Path, stopping: threading.Event | None) -> None:
    partial = folder.with_name(f"{folder.name}.{os.getpid()}")
    partial.mkdir(parents=True, exist_ok=True)
    pom = partial / "pom.xml"
    shutil.copyfile(POM, pom)
    what = ("--file", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={partial}")
    try:
        maven = Command(argv=["mvn", "--batch-mode", "--quiet", "-Dstyle.color=never", *what], log=log)
        run("Maven", maven, timeout_seconds=600, stopping=stopping)
        pom.unlink()
        (partial / ".complete").touch()
        if not _is_complete(folder):  # another process may have been faster
            shutil.rmtree(folder, ignore_errors=True)
            partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_complete(folder: Path) -> bool:
    """Fetched by us, or a folder of somebody's own; with the broker's jar in it."""
    ours_to_fetch = os.environ.get("LOGUE_KAFKA_JARS") is None
    return any(folder.glob("kafka_2.13-*.jar")) and ((folder / ".complete").exists() or not ours_to_fetch)


def _require(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise DevstackError(f"Apache Kafka needs `{program}`, which is not on the PATH.")
    return path


def _require_java_17() -> None:
    shown = subprocess.run([_require("java"), "-version"], capture_output=True, text=True, check=False, timeout=30)
    found = re.search(r'version "(\d+)', shown.stderr + shown.stdout)
    if found is None or int(found[1]) < 17:
        raise DevstackError(
            f"Apache Kafka needs Java 17 or newer; this machine has {found[1] if found else 'another'}."
        )
