"""Child processes that never outlive their parent, and that are known by id *and* start time, never by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from logue_devstack.errors import DevstackError, InterruptedStartError

_POLL_SECONDS = 0.04
_GONE_SECONDS = 5.0
_LOG_ROTATE_BYTES = 16 * 1024 * 1024

# Linux sends the parent-death signal when the *thread* that forked ends. So every fork happens on this one thread,
# which lives as long as the interpreter.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")
_TETHER = Path(__file__).with_name("tether.py")


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. `environment` replaces the whole environment; `user` is a system user to run as (root only)."""

    argv: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    directory: Path | None = None
    user: str | None = None
    death_signal: signal.Signals = signal.SIGKILL
    """Sent by the kernel when our own process dies, however it dies (Linux)."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, safe against the reuse of its number: the start time must match too."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        try:
            return cls(pid, float(psutil.Process(pid).create_time()))
        except psutil.NoSuchProcess:
            return None

    def is_alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            same = abs(float(process.create_time()) - self.started) < 0.5
            return same and str(process.status()) != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def send(self, signum: signal.Signals) -> None:
        """Signals the process if it is still the one we mean; does nothing otherwise."""
        if self.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signum)


class Child:
    """A running child process; its output goes to the end of the command's log file."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self._popen = popen
        self.log = log
        self.id = ProcessId.of(popen.pid) or ProcessId(popen.pid, time.time())

    def returncode(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._popen.poll()

    def send(self, signum: signal.Signals) -> None:
        self._popen.send_signal(signum)

    def send_to_family(self, signum: signal.Signals) -> None:
        """Signals it, and then the processes that it has started and that they have (PostgreSQL's backends)."""
        self.send(signum)  # first: a stopped process starts no others
        for descendant in self._descendants():
            descendant.send(signum)

    def stop(self, signum: signal.Signals, timeout_seconds: float) -> bool:
        """Asks it to end, and kills it after the timeout; False if it had to be killed."""
        self.send(signum)
        try:
            self._popen.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def kill(self) -> None:
        """Ends it and its descendants at once, as a crash of the machine would, and waits until they are gone."""
        self.send(signal.SIGSTOP)  # it starts no others meanwhile
        descendants = self._descendants()
        self.send(signal.SIGKILL)
        for descendant in descendants:
            descendant.send(signal.SIGKILL)
        self._popen.wait()
        wait_until(lambda: not any(descendant.is_alive() for descendant in descendants), _GONE_SECONDS)

    def _descendants(self) -> list[ProcessId]:
        try:
            found = psutil.Process(self.id.pid).children(recursive=True) if self.id.is_alive() else []
        except psutil.NoSuchProcess:
            return []
        return [each for descendant in found if (each := ProcessId.of(descendant.pid)) is not None]


def spawn(command: Command) -> Child:
    """Starts the command in a session of its own, so that Ctrl-C in the terminal does not reach it before us."""
    command.log.parent.mkdir(parents=True, exist_ok=True)
    _rotate(command.log)
    tether = [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), str(int(command.death_signal))]

    def fork() -> subprocess.Popen[bytes]:
        with command.log.open("ab") as log:
            return subprocess.Popen(
                [*tether, command.user or "", *command.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(command.environment),
                cwd=command.directory,
                start_new_session=True,
            )

    return Child(_spawner.submit(fork).result(), command.log)


def run(name: str, command: Command, *, timeout_seconds: float, stopping: threading.Event | None = None) -> None:
    """Runs the command to its end. Raises DevstackError, with the end of its log, when it fails or takes too long."""
    child = spawn(command)
    try:
        if not wait_until(lambda: child.returncode() is not None, timeout_seconds, stopping):
            raise DevstackError(f"{name} did not end within {timeout_seconds:.0f} s; see {shown(command.log)}.")
    finally:
        if child.returncode() is None:
            child.kill()
    if child.returncode() != 0:
        raise DevstackError(
            f"{name} failed (exit code {child.returncode()}); see {shown(command.log)}.\n{tail(command.log)}"
        )


def wait_until(condition: Callable[[], bool], timeout_seconds: float, stopping: threading.Event | None = None) -> bool:
    """Polls until the condition holds; False after the timeout. Raises InterruptedStartError once `stopping` is set."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if stopping is not None and stopping.is_set():
            raise InterruptedStartError("The start was interrupted.")
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, indented for the terminal."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join("    " + line for line in text.splitlines()[-lines:])


def shown(path: Path) -> Path:
    """The path as a person in this folder would write it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_ROTATE_BYTES:
        log.replace(log.with_suffix(log.suffix + ".1"))
