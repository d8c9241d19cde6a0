"""Transactions: who they act for, what becomes of their errors, and that a cancelled caller leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import orjson
from pydantic_core import to_json
from sqlalchemy import URL, event, make_url, text
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, SQLAlchemyError, StatementError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from logue_common.tracing import SpanKind, child_span
from logue_conversation import metrics
from logue_conversation.errors import DataRejectedError, StoreUnavailableError
from logue_conversation.escaping import escape_json, needs_escape, unescape_json

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]

#: A server that accepts no connection within this is away.
_CONNECT_SECONDS = 3.0
#: How long a request waits for a free connection before it is told to come back.
_POOL_WAIT_SECONDS = 2.0
_DATA_ERRORS = ("22", "23")

_TRANSACTION = {"db.system.name": "postgresql", "db.operation.name": "transaction"}

_ACT_FOR_USER = text("SELECT set_config('logue.user_id', :who, true)")
_ACT_FOR_USERS = text("SELECT set_config('logue.users', :who, true)")


def sqlalchemy_url(url: str) -> URL:
    """A postgresql:// address as SQLAlchemy's asyncpg dialect takes it (libpq's `sslmode` is asyncpg's `ssl`)."""
    parsed = make_url(url).set(drivername="postgresql+asyncpg")
    query = dict(parsed.query)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return parsed.set(query=query)


def _dump_json(value: Any) -> str:
    dumped = to_json(value, inf_nan_mode="null").decode()
    # Looked for in the text, which is quicker than going through every value.
    return to_json(escape_json(value), inf_nan_mode="null").decode() if needs_escape(dumped) else dumped


def _load_json(dumped: str) -> Any:
    # As the gateway and the events read numbers: jsonb writes 1e30 out, which must not become an int of Python's.
    value = orjson.loads(dumped)
    return unescape_json(value) if needs_escape(dumped) else value


#: No statement is found again by its name, which a pooler may have given to another server's connection.
_UNPREPARED = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: f"logue_{uuid.uuid4().hex}",
}


def make_engine(url: str, *, pool_size: int, command_seconds: float, prepared: bool = True) -> AsyncEngine:
    """An engine whose connections prepare each statement once, unless `prepared` is off."""
    engine = create_async_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_POOL_WAIT_SECONDS,
        json_serializer=_dump_json,
        json_deserializer=_load_json,
        hide_parameters=True,
        connect_args={
            "timeout": _CONNECT_SECONDS,
            "command_timeout": command_seconds,
            **({} if prepared else _UNPREPARED),
        },
    )
    event.listen(engine.sync_engine, "checkout", _require_open)
    return engine


def _require_open(connection: Any, _record: Any, _proxy: Any) -> None:
    """A connection that the server has closed is replaced, with all that are as old.

    SQLAlchemy's own way asks the server before each transaction: a round trip for what the driver knows by itself.
    """
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


class Database:
    """One role's connections. Raises StoreUnavailableError and DataRejectedError only."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._running: set[asyncio.Task[Any]] = set()

    async def as_user(self, user_id: str, work: Work[T]) -> T:
        """Run `work` in a transaction that sees this user's rows only."""
        return await self._shielded(work, _ACT_FOR_USER, user_id)

    async def as_users(self, user_ids: Iterable[str], work: Work[T]) -> T:
        """Run `work` in a transaction that sees the rows of these users only."""
        return await self._shielded(work, _ACT_FOR_USERS, json.dumps(dict.fromkeys(user_ids, 1)))

    async def as_nobody(self, work: Work[T]) -> T:
        """Run `work` in a transaction that acts for no user."""
        return await self._shielded(work, None, None)

    def show_use(self, pool: str) -> None:
        """Set the gauges of this pool."""
        found = self._engine.pool
        assert isinstance(found, QueuePool)  # noqa: S101 (what create_async_engine makes; for the type checker)
        metrics.POOL_CONNECTIONS.labels(pool, "used").set(found.checkedout())
        metrics.POOL_CONNECTIONS.labels(pool, "free").set(found.size() - found.checkedout())

    async def close(self) -> None:
        """Wait for what runs, then close every connection."""
        if self._running:
            await asyncio.wait(set(self._running))
        await self._engine.dispose()

    async def _shielded(self, work: Work[T], act_for: Any, who: str | None) -> T:
        # A task of its own: a caller that is cancelled in the middle of a statement would leak the connection.
        task = asyncio.create_task(self._transaction(work, act_for, who))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may be gone

    async def _transaction(self, work: Work[T], act_for: Any, who: str | None) -> T:
        try:
            with child_span("transaction logue", SpanKind.CLIENT, _TRANSACTION):
                return await self._run(work, act_for, who)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise translated(error) from error

    async def _run(self, work: Work[T], act_for: Any, who: str | None) -> T:
        async with self._engine.begin() as connection:
            if act_for is not None:
                await connection.execute(act_for, {"who": who})
            return await work(connection)


def translated(error: Exception) -> DataRejectedError | StoreUnavailableError:
    """What a driver's error means to us: the data is refused (never try again), or the store is away (do)."""
    if isinstance(error, DBAPIError):
        cause = getattr(error.orig, "__cause__", None) or error.orig
        sqlstate = str(getattr(cause, "sqlstate", None) or "")
        if sqlstate.startswith(_DATA_ERRORS):
            line = str(cause).split("\n", 1)[0]
            return DataRejectedError(sqlstate, line, getattr(cause, "constraint_name", None))
        return StoreUnavailableError(f"PostgreSQL: {type(cause).__name__} {sqlstate}".rstrip())
    if isinstance(error, StatementError) and not isinstance(error.orig, (OSError, TimeoutError)):
        return DataRejectedError("22000", f"a value cannot be sent: {type(error.orig).__name__}")
    return StoreUnavailableError(f"PostgreSQL: {type(error).__name__}")
