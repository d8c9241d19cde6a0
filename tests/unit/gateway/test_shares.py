"""One user's share of what all use."""

from __future__ import annotations

import asyncio
import gc

import pytest

from logue_common.errors import ProblemError
from logue_gateway.shares import Shares


async def _hold(shares: Shares, user: str, until: asyncio.Event, held: list[str]) -> None:
    async with shares.of(user):
        held.append(user)
        await until.wait()


async def test_one_users_calls_leave_room_for_another_user() -> None:
    shares, over, held = Shares(2, wait_seconds=5), asyncio.Event(), []  # type: ignore[var-annotated]
    async with asyncio.TaskGroup() as group:
        for user in ("ann", "ann", "ann", "bob"):
            group.create_task(_hold(shares, user, over, held))
        async with asyncio.timeout(5):
            while len(held) < 3:
                await asyncio.sleep(0)
        assert sorted(held) == ["ann", "ann", "bob"]
        over.set()
    assert sorted(held) == ["ann", "ann", "ann", "bob"]


async def test_who_waits_too_long_is_told_to_come_back() -> None:
    shares, over = Shares(1, wait_seconds=0.05), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        held: list[str] = []
        group.create_task(_hold(shares, "ann", over, held))
        await asyncio.sleep(0)
        with pytest.raises(ProblemError) as refused:
            async with shares.of("ann"):
                pass
        assert (refused.value.status, refused.value.code) == (429, "rate_limited")
        over.set()
    async with shares.of("ann"):
        pass


async def test_a_call_that_fails_or_is_cancelled_gives_its_place_back() -> None:
    shares = Shares(1, wait_seconds=0.05)
    for error in (ValueError, asyncio.CancelledError):
        with pytest.raises(error):
            async with shares.of("ann"):
                raise error
    async with shares.of("ann"):
        pass


async def test_users_who_do_nothing_take_no_room() -> None:
    shares = Shares(1, wait_seconds=1)
    for number in range(1000):
        async with shares.of(f"user-{number}"):
            pass
    gc.collect()
    assert len(shares._of) == 0
