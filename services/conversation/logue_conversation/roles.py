"""The three roles that the service logs in as: none owns a table, none bypasses row-level security."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import Self

from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from logue_common.errors import StartupError

API, WRITER, RELAY = "logue_api", "logue_writer", "logue_relay"

_SCRAM_ITERATIONS = 4096  # PostgreSQL's default; the passwords are random, not chosen by people
#: A new role is no superuser and bypasses nothing unless told so; only a superuser could say it again in ALTER ROLE.
_CREATE = "CREATE ROLE {role} WITH LOGIN NOINHERIT {secret}"
_ALTER = "ALTER ROLE {role} WITH LOGIN {secret}"
#: Roles belong to the whole server, the migration lock to one database: two databases may be migrated at once.
_RACE_SQLSTATES = {"42710", "23505", "XX000", "40001"}
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Login:
    """A role and the password that it shall have."""

    role: str
    password: str

    @classmethod
    def from_url(cls, url: str, expected_role: str, variable: str) -> Self:
        """From a service's address. Raises StartupError when it names another role, or no usable password."""
        parsed = make_url(url)
        password = str(parsed.password or "")
        if parsed.username != expected_role:
            raise StartupError(f"{variable} must log in as {expected_role}: the policies of the tables name that role.")
        if not password or not password.isascii():
            raise StartupError(f"{variable} needs a password of ASCII characters.")
        return cls(expected_role, password)


def scram_verifier(password: str, salt: bytes | None = None) -> str:
    """What PostgreSQL stores of a password (RFC 5803), so that the password itself never reaches the server's log."""
    salt = os.urandom(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${_SCRAM_ITERATIONS}:{salt64}${stored64}:{server64}"


async def ensure_role(connection: AsyncConnection, login: Login) -> None:
    """Create the role, or give it this password. Where the owner may not create roles, the role must exist."""
    may_create = await connection.scalar(
        text("SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user")
    )
    # DDL takes no parameters; role names are constants and a verifier has no quote in it.
    secret = f"PASSWORD '{scram_verifier(login.password)}'"
    for attempt in range(1, _ATTEMPTS + 1):
        exists = await connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": login.role})
        if not may_create:
            if exists:
                return
            raise StartupError(f"The role {login.role} is missing, and the database's owner may not create roles.")
        statement = (_ALTER if exists else _CREATE).format(role=login.role, secret=secret)
        try:
            async with connection.begin_nested():
                await connection.exec_driver_sql(statement)
        except DBAPIError as error:
            sqlstate = getattr(error.orig, "sqlstate", None)
            if exists and sqlstate == "42501":  # somebody else's role: its password is theirs to keep
                return
            if sqlstate not in _RACE_SQLSTATES or attempt == _ATTEMPTS:
                raise
        else:
            return
