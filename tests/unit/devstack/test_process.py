from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from logue_devstack.errors import DevstackError, InterruptedStartError
from logue_devstack.process import Child, Command, ProcessId, run, spawn, tail, wait_until

SLEEPER = [sys.executable, "-c", "import time; print('started', flush=True); time.sleep(60)"]


def command(tmp_path: Path, *argv: str) -> Command:
    return Command(argv=argv or SLEEPER, log=tmp_path / "logs" / "child.log")


def test_child_writes_to_its_log_and_stops_on_request(tmp_path: Path) -> None:
    child = spawn(command(tmp_path))
    assert wait_until(lambda: "started" in tail(child.log), 10)
    assert child.returncode() is None
    assert child.stop(signal.SIGTERM, 5)
    assert child.returncode() == -signal.SIGTERM


def test_child_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    child = spawn(command(tmp_path, sys.executable, "-c", deaf))
    assert wait_until(lambda: "deaf" in tail(child.log), 10)
    assert not child.stop(signal.SIGTERM, 0.2)
    assert child.returncode() == -signal.SIGKILL


FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print("child", child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def family(tmp_path: Path) -> Iterator[tuple[Child, ProcessId]]:
    """A process and one that it started, in a session of its own as PostgreSQL's backends are."""
    parent = spawn(command(tmp_path, sys.executable, "-c", FAMILY))
    assert wait_until(lambda: "child" in tail(parent.log), 10)
    child = ProcessId.of(int(tail(parent.log).split()[-1]))
    assert child is not None
    yield parent, child
    parent.kill()
    child.send(signal.SIGKILL)


def test_whole_family_is_frozen_and_goes_on(family: tuple[Child, ProcessId]) -> None:
    parent, child = family
    both = [psutil.Process(parent.id.pid), psutil.Process(child.pid)]
    parent.send_to_family(signal.SIGSTOP)
    assert wait_until(lambda: all(process.status() == psutil.STATUS_STOPPED for process in both), 5)
    parent.send_to_family(signal.SIGCONT)
    assert wait_until(lambda: all(process.status() == psutil.STATUS_SLEEPING for process in both), 5)


@pytest.mark.parametrize("frozen", [False, True])
def test_kill_ends_the_whole_family(family: tuple[Child, ProcessId], frozen: bool) -> None:
    parent, child = family
    if frozen:
        parent.send_to_family(signal.SIGSTOP)
    parent.kill()
    assert not parent.id.is_alive()
    assert not child.is_alive()


def test_run_shows_the_end_of_the_log_of_what_failed(tmp_path: Path) -> None:
    failing = command(tmp_path, sys.executable, "-c", "print('because'); raise SystemExit(3)")
    with pytest.raises(DevstackError, match=r"(?s)migrations failed \(exit code 3\).*because"):
        run("migrations", failing, timeout_seconds=10)


def test_missing_program_is_a_failed_run(tmp_path: Path) -> None:
    with pytest.raises(DevstackError, match=r"(?s)Maven failed.*Cannot run no-such-program"):
        run("Maven", command(tmp_path, "no-such-program"), timeout_seconds=10)


def test_run_is_given_up_when_the_stack_is_asked_to_stop(tmp_path: Path) -> None:
    stopping = threading.Event()
    stopping.set()
    began = time.monotonic()
    with pytest.raises(InterruptedStartError):
        run("sleeper", command(tmp_path), timeout_seconds=30, stopping=stopping)
    assert time.monotonic() - began < 5


def test_process_id_with_another_start_time_is_somebody_else() -> None:
    own = ProcessId.of(os.getpid())
    assert own is not None
    assert own.is_alive()
    stranger = ProcessId(own.pid, own.started - 60)
    assert not stranger.is_alive()
    stranger.send(signal.SIGKILL)  # reaches nobody


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: the parent-death signal")
def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent_code = f"""
import sys, time
from pathlib import Path
from logue_devstack.process import Command, spawn
child = spawn(Command(argv={SLEEPER!r}, log=Path({str(tmp_path / "child.log")!r})))
print(child.id.pid, child.id.started, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, started = parent.stdout.readline().split()
        child = ProcessId(int(pid), float(started))
        assert wait_until(lambda: "started" in tail(tmp_path / "child.log"), 10)
        assert child.is_alive()
        parent.kill()
    assert wait_until(lambda: not child.is_alive(), 5)
