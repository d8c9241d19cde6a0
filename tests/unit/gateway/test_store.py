"""Calls to a conversation service whose replicas come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from logue_common.errors import ProblemError
from logue_gateway.store import Store


@asynccontextmanager
async def service(hangs_up: int) -> AsyncIterator[tuple[Store, list[str]]]:
    """A store whose service ends the first connections without an answer; the requests that it saw."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 1)[0])
        if len(seen) > hangs_up:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    store = Store(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "token")
    store.open()
    try:
        yield store, seen
    finally:
        await store.close()
        server.close()


async def test_a_question_goes_to_another_replica_when_one_ends() -> None:
    async with service(hangs_up=3) as (store, seen):
        answer = await store.call("GET", "ann", "/turns/1", route="turn")
    assert (answer.status, answer.body, seen) == (200, b"{}", ["GET"] * 4)


async def test_what_changes_something_is_sent_once() -> None:
    async with service(hangs_up=1) as (store, seen):
        with pytest.raises(ProblemError):
            await store.call("POST", "ann", "/conversations", route="conversations", body=b"{}")
    assert seen == ["POST"]


async def test_a_service_that_always_hangs_up_is_unavailable() -> None:
    async with service(hangs_up=100) as (store, seen):
        with pytest.raises(ProblemError):
            await store.call("GET", "ann", "/turns/1", route="turn")
    assert 3 <= len(seen) <= 6  # aiohttp may try each twice
