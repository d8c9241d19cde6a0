"""Clocks of services that can be set wrong while they run, by libfaketime.

Looking at the clock costs 0.4 µs more then; an event loop's timers are untouched. libfaketime 0.9.10 breaks
`time.sleep` (EINVAL) when the monotonic clock is left alone: no service calls it.
"""

from __future__ import annotations

from pathlib import Path

from logue_devstack.errors import DevstackError

_NEEDED = "Clocks can jump only with libfaketime, which is not installed here (Debian: libfaketime)."


def missing_for_clocks() -> str | None:
    """A sentence on what this machine lacks; None when clocks can jump."""
    return _NEEDED if _library() is None else None


class Clocks:
    """One file per process that says how far its clock is off."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._library = _library()

    def add(self, name: str) -> dict[str, str]:
        """The environment with which the process is to be started; empty where clocks cannot jump."""
        if self._library is None:
            return {}
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file(name).write_text("+0")
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file(name)),
            "FAKETIME_CACHE_DURATION": "1",  # seconds between two looks at the file; each costs 10 µs
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",  # its name before 0.9.10
            "NO_FAKE_STAT": "1",
        }

    def set(self, name: str, seconds: float) -> None:
        """Raises DevstackError where clocks cannot jump, or this one cannot."""
        if self._library is None:
            raise DevstackError(_NEEDED)
        if not self._file(name).exists():
            raise DevstackError(f"The clock of {name} cannot jump; only those of services can.")
        changed = self._file(name).with_suffix(".new")
        changed.write_text(f"{seconds:+.3f}")
        changed.replace(self._file(name))

    def _file(self, name: str) -> Path:
        return self._folder / name


def _library() -> Path | None:
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
