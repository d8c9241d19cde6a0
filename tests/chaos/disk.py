"""A small disk of its own for PostgreSQL, which can be filled: a tmpfs, mounted where its data is to be.

It keeps what a server that is killed had written, like any disk; only when the machine dies is it gone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

import psutil

from logue_devstack.errors import DevstackError
from logue_devstack.postgres import Postgres

_NEEDED = "A disk can be filled only where one can be mounted: as root, with `mount`, on Linux"
_PREFIX = "logue-chaos-"
#: Else the write-ahead log alone takes a gigabyte before PostgreSQL recycles it.
_SMALL_LOG = """
ALTER SYSTEM SET max_wal_size = '96MB';
ALTER SYSTEM SET min_wal_size = '32MB';
SELECT pg_reload_conf();
"""


def missing_for_disk() -> str | None:
    """A sentence on what this machine lacks; None when a disk can probably be mounted."""
    return None if os.geteuid() == 0 and shutil.which("mount") is not None else f"{_NEEDED}."


class Disk:
    """Mounted within the `with` block, where it can be; otherwise the folder is an ordinary one."""

    def __init__(self, folder: Path, size_mib: int) -> None:
        self.folder = folder
        self.problem = missing_for_disk()
        self._size_mib = size_mib
        self._is_mounted = False

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.problem is None:
            _unmount_leftovers()
            mount = ["mount", "-t", "tmpfs", "-o", f"size={self._size_mib}m", f"{_PREFIX}{os.getpid()}", self.folder]
            done = subprocess.run(mount, capture_output=True, text=True, check=False)
            self._is_mounted = done.returncode == 0
            self.problem = None if self._is_mounted else f"{_NEEDED}; here it says: {done.stderr.strip()}."
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_mounted:
            _unmount(self.folder)
            self._is_mounted = False

    def settle(self, server: Postgres) -> None:
        """Makes the server content with so small a disk."""
        if self._is_mounted:
            server.sql(_SMALL_LOG)

    def fill(self) -> None:
        """Takes all the space that is left. Raises DevstackError where there is no disk of its own."""
        if not self._is_mounted:
            raise DevstackError(self.problem or "The disk is not mounted.")
        with self._filler.open("ab") as file:
            while space := shutil.disk_usage(self.folder).free:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), space)
                except OSError:  # somebody was faster; what is left now?
                    continue

    def free(self) -> None:
        """Gives it back."""
        self._filler.unlink(missing_ok=True)

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"


def _unmount(folder: Path | str) -> None:
    # Lazily: a backend that was just killed may still be on its way out.
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def _unmount_leftovers() -> None:
    """Of runs that were themselves killed: their memory would be lost until the machine restarts."""
    for line in Path("/proc/mounts").read_text().splitlines():
        source, folder, *_ = line.split(" ")
        if source.startswith(_PREFIX) and not psutil.pid_exists(int(source.removeprefix(_PREFIX))):
            _unmount(folder.encode().decode("unicode_escape"))  # blanks are octal there
