"""What every test may use: a real PostgreSQL, both brokers, and the rule that CI runs the Apache Kafka tests."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from logue_devstack.apache_kafka import ApacheKafka, broker_settings, jar_folder, kafka_version, missing_tools
from logue_devstack.noida import NoidaBroker
from logue_devstack.postgres import Postgres
from logue_devstack.process import wait_until
from logue_devstack.server import free_ports

APACHE_REQUIRED = os.environ.get("LOGUE_REQUIRE_APACHE") == "1"
EXTERNAL_KAFKA = os.environ.get("LOGUE_TEST_KAFKA")

# Machines of CI are shared: how long one example takes says nothing.
settings.register_profile("logue", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("logue")

apache_tests_run = pytest.StashKey[int]()
own_folder = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep temporary files in a folder of this run's own.

    pytest's default is shared by all runs of a user, and each makes its top unreadable for others again, such as the
    PostgreSQL of a run beside it.
    """
    if config.option.basetemp is None:
        folder = config.stash[own_folder] = Path(tempfile.mkdtemp(prefix="logue-tests-"))
        config.option.basetemp = folder / "tmp"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Delete the folder of this run."""
    if folder := config.stash.get(own_folder, None):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL server; `postgres_server.create_database("name")` makes an empty database and returns its URL."""
    folder = tmp_path_factory.mktemp("postgres")
    with Postgres(folder / "data", free_ports(1)[0], fast=True) as server:
        yield server


@pytest.fixture(scope="session")
def noida_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NoidaBroker]:
    """The stand-in broker."""
    with NoidaBroker(tmp_path_factory.mktemp("noida"), free_ports(1)[0]) as broker:
        yield broker


@pytest.fixture(scope="session")
def apache_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """A real Apache Kafka as a process of our own; skipped with what it needs where it cannot run."""
    if (problem := missing_tools(jar_folder())) is not None:
        pytest.skip(problem)
    port, controller_port = free_ports(2)
    with ApacheKafka(tmp_path_factory.mktemp("apache"), port, controller_port=controller_port) as broker:
        yield broker


@pytest.fixture(scope="session")
def apache_bootstrap(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a real Apache Kafka: LOGUE_TEST_KAFKA, a process of our own, or a container."""
    if EXTERNAL_KAFKA:
        yield EXTERNAL_KAFKA
    elif (problem := missing_tools(jar_folder())) is None:
        broker: ApacheKafka = request.getfixturevalue("apache_broker")
        yield broker.bootstrap
    elif docker_works():
        with kafka_container() as bootstrap:
            yield bootstrap
    else:
        pytest.skip(f"{problem} Docker would do too, or LOGUE_TEST_KAFKA=host:port.")


def docker_works() -> bool:
    """Whether there is a Docker daemon that we may use."""
    return (
        shutil.which("docker") is not None
        and subprocess.run(["docker", "info"], check=False, capture_output=True).returncode == 0
    )


@contextmanager
def kafka_container() -> Iterator[str]:
    """Apache Kafka's own image, with the settings of the devstack; it only listens on loopback."""
    port, controller_port = free_ports(2)
    settings = broker_settings(port, controller_port)
    settings["listeners"] = f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://127.0.0.1:{controller_port}"
    options = [f"--env=KAFKA_{name.replace('.', '_').upper()}={value}" for name, value in settings.items()]
    image = f"apache/kafka:{kafka_version()}"
    run = ["docker", "run", "--rm", "--detach", f"--publish=127.0.0.1:{port}:{port}", *options, image]
    container = subprocess.run(run, check=True, capture_output=True, text=True, timeout=300).stdout.strip()
    try:
        # Docker's proxy accepts connections before Kafka does.
        started = ["docker", "logs", container]
        assert wait_until(
            lambda: b"Kafka Server started" in subprocess.run(started, check=False, capture_output=True).stdout, 60
        )
        yield f"127.0.0.1:{port}"
    finally:
        subprocess.run(["docker", "stop", container], check=False, capture_output=True, timeout=60)


@pytest.fixture(scope="session", params=["noida", pytest.param("apache", marks=pytest.mark.apache)])
def broker(request: pytest.FixtureRequest) -> str:
    """The bootstrap address of each kind of broker in turn. Tests share it, so they name their topics uniquely."""
    if request.param == "apache":
        return str(request.getfixturevalue("apache_bootstrap"))
    noida: NoidaBroker = request.getfixturevalue("noida_broker")
    return noida.bootstrap


@pytest.fixture(autouse=True, scope="session")
def _no_proxy_and_no_model_key() -> Iterator[None]:
    """Nothing but loopback: neither a proxy nor a real model server is ever asked."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            patch.delenv(name, raising=False)
            patch.delenv(name.lower(), raising=False)
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where LOGUE_REQUIRE_APACHE=1, a skipped Apache Kafka test is a failed one. A test that hung shows its tasks."""
    report = yield
    if call.excinfo is not None and "Timeout" in str(call.excinfo.value):
        report.sections.append(("Tasks", tasks_now()))
    if item.get_closest_marker("apache") is not None:
        if report.skipped and APACHE_REQUIRED and item.get_closest_marker("optional") is None:
            report.outcome = "failed"
            report.longrepr = f"LOGUE_REQUIRE_APACHE=1, but this test was skipped: {call.excinfo}"
        elif report.when == "call" and report.passed:
            item.config.stash[apache_tests_run] = item.config.stash.get(apache_tests_run, 0) + 1
    return report


def tasks_now() -> str:
    """What every pending task waits for; the traceback of a timeout ends in the event loop."""
    shown = io.StringIO()
    for task in list(asyncio.tasks._all_tasks):  # type: ignore[attr-defined]
        if not task.done():
            task.print_stack(file=shown)
    return shown.getvalue()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where LOGUE_REQUIRE_APACHE=1, a run without any Apache Kafka test is a failed one."""
    none_ran = session.config.stash.get(apache_tests_run, 0) == 0
    if APACHE_REQUIRED and none_ran and exitstatus == pytest.ExitCode.OK:
        print("\nLOGUE_REQUIRE_APACHE=1, but no test ran against a real Apache Kafka.")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return Path(__file__).parent.parent
