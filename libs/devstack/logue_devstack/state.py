"""What runs: a lock that only one stack holds per data folder, and a file that names its processes."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import orjson

from logue_devstack.errors import DevstackError
from logue_devstack.process import ProcessId

_LEFTOVER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ProcessEntry:
    """One process of the stack, as told to other terminals."""

    id: ProcessId
    port: int
    log: str


@dataclass(frozen=True, slots=True)
class StackState:
    """Written whenever a process starts."""

    supervisor: ProcessId
    broker: str
    gateway_urls: list[str]
    processes: dict[str, ProcessEntry] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        partial = path.with_suffix(".new")
        partial.write_bytes(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2))
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """None when there is none, or none that can be read."""
        try:
            raw = orjson.loads(path.read_bytes())
            return cls(
                supervisor=ProcessId(**raw["supervisor"]),
                broker=raw["broker"],
                gateway_urls=raw["gateway_urls"],
                processes={name: _entry(entry) for name, entry in raw["processes"].items()},
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    @property
    def is_running(self) -> bool:
        return self.supervisor.is_alive()


def _entry(raw: Mapping[str, Any]) -> ProcessEntry:
    return ProcessEntry(ProcessId(**raw["id"]), raw["port"], raw["log"])


class StackLock:
    """Held by the one stack that uses a data folder; the kernel releases it when that process dies."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        """Raises DevstackError when another stack holds it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise DevstackError(
                f"Logue already runs with the data in {self._path.parent} (process {holder}); "
                "`logue status` shows it, `logue down` stops it."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def end_leftovers(state: StackState | None) -> list[str]:
    """Ends processes that an earlier stack, itself killed, could not end; returns their names.

    Only processes whose id and start time are those in the state file are touched.
    """
    if state is None:
        return []
    left = {name: entry.id for name, entry in state.processes.items() if entry.id.is_alive()}
    for name, process in left.items():
        process.send(signal.SIGINT if name == "postgres" else signal.SIGTERM)
        process.send(signal.SIGCONT)
    deadline = time.monotonic() + _LEFTOVER_SECONDS
    while any(process.is_alive() for process in left.values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left.values():
        process.send(signal.SIGKILL)
    return list(left)
