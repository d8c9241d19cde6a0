"""The `logue` command as a person uses it: start it, look at it, stop it; and every way in which that goes wrong."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from logue_devstack.process import wait_until
from logue_devstack.server import free_ports, port_answers
from logue_devstack.state import StackState

LOGUE = [sys.executable, "-m", "logue_devstack.cli"]
Up = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def environment(stand_ins: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return {**os.environ, **stand_ins, "LOGUE_DATA_DIR": str(tmp_path / "data")}


@pytest.fixture
def logue(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs one `logue` command to its end."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*LOGUE, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture
def up(environment: dict[str, str], tmp_path: Path) -> Iterator[Up]:
    """Starts `logue up` on ports of its own and waits until it says that it is ready."""
    started: list[subprocess.Popen[str]] = []
    output = tmp_path / "up.log"
    port, base = free_ports(1)[0], free_block(11)

    def start() -> subprocess.Popen[str]:
        with output.open("w") as file:
            command = [*LOGUE, "up", "--port", str(port), "--base-port", str(base)]
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, text=True)
        started.append(process)
        assert wait_until(lambda: "Ready after" in output.read_text() or process.poll() is not None, 30)
        assert process.poll() is None, output.read_text()
        return process

    yield start
    for process in started:
        process.terminate()
        process.wait(30)


def free_block(count: int) -> int:
    """The first of that many free ports in a row, below the ports that the kernel hands out."""
    for base in random.sample(range(20_000, 32_000, 20), 100):
        if not any(port_answers(port) for port in range(base, base + count)):
            return base
    pytest.fail("There are no free ports in a row.")


def state_of(environment: dict[str, str]) -> StackState:
    state = StackState.read(Path(environment["LOGUE_DATA_DIR"]) / "state.json")
    assert state is not None
    return state


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_every_process(up: Up, environment: dict[str, str], signum: signal.Signals) -> None:
    process = up()
    children = state_of(environment).processes
    process.send_signal(signum)
    assert process.wait(30) == 0
    assert not any(entry.id.is_alive() for entry in children.values())


def test_greeting_can_be_pasted(up: Up, tmp_path: Path, logue: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    up()
    greeting = (tmp_path / "up.log").read_text()
    assert "curl -N http://127.0.0.1:" in greeting
    assert logue("token").stdout.strip().partition(".")[0] in greeting


def test_status_down_and_second_start(up: Up, logue: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert logue("status").returncode == 1
    process = up()
    shown = logue("status")
    assert (shown.returncode, "gateway-0" in shown.stdout) == (0, True)
    second = logue("up")
    assert (second.returncode, len(second.stderr.splitlines())) == (1, 1)
    assert "already runs" in second.stderr
    assert "gateway-0 | started" in logue("logs", "gateway-0").stdout
    assert logue("reset", "--yes").returncode == 1
    assert logue("down").returncode == 0
    assert process.wait(10) == 0
    assert "does not run" in logue("down").stdout


def test_start_after_the_stack_itself_was_killed(up: Up, environment: dict[str, str]) -> None:
    first = up()
    children = state_of(environment).processes
    first.kill()
    first.wait()
    up()
    assert not any(entry.id.is_alive() for entry in children.values())


def test_reset_deletes_everything_but_downloads(
    up: Up, environment: dict[str, str], logue: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    process = up()
    process.terminate()
    process.wait(30)
    folder = Path(environment["LOGUE_DATA_DIR"])
    (folder / "apache-kafka").mkdir()
    assert logue("reset", "--yes").returncode == 0
    assert {path.name for path in folder.iterdir()} == {"apache-kafka", "lock"}


def test_token_before_the_first_start_says_what_to_do(logue: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = logue("token")
    assert (result.returncode, "logue up" in result.stderr) == (1, True)
