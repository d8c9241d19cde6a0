"""What becomes of the work in hand when an agent leaves."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from tests.unit.agent.events import NOW, replied, requested
from tests.unit.agent.test_frame_writer import Kafka

from logue_agent.actions import End, Repeat
from logue_agent.context import ContextCache
from logue_agent.lanes import Lanes
from logue_agent.turn import Turn, TurnState
from logue_common.producer import Producer

LATER = NOW + timedelta(seconds=20)


class Leaving:
    """Lanes with two turns that have begun and one that waits for its slot; the log takes what `refused` leaves."""

    def __init__(self, *refused: str) -> None:
        self.told: list[tuple[str, datetime]] = []

        async def goes_on(turn: Turn, finishes_by: datetime) -> bool:
            self.told.append((turn.request.content, finishes_by))
            return turn.request.content not in refused

        runner: Any = SimpleNamespace(goes_on=goes_on)
        nothing: Any = None
        self.lanes = Lanes(runner, nothing, nothing, lambda: NOW)
        for name in ("first", "second", "waits"):
            turn = Turn(requested(name, content=name), 0, 0, 1, TurnState.RUNNING, begun=name != "waits")
            self.lanes._start(turn, asyncio.sleep(60))

    @property
    def at_work(self) -> set[str]:
        return {turn.request.content for turn in self.lanes._tasks}


async def test_what_has_begun_goes_on_and_the_rest_is_let_go() -> None:
    leaving = Leaving()
    assert await leaving.lanes.hand_over(LATER)
    await asyncio.sleep(0.01)
    assert leaving.told == [("first", LATER), ("second", LATER)]
    assert leaving.at_work == {"first", "second"}
    await leaving.lanes.give_up()
    await asyncio.sleep(0.01)
    assert leaving.told[2:] == [("first", NOW), ("second", NOW)]
    assert leaving.at_work == set()


async def test_what_the_log_took_is_taken_back_when_it_did_not_take_all() -> None:
    leaving = Leaving("second")
    assert not await leaving.lanes.hand_over(LATER)
    assert leaving.told[2:] == [("first", NOW), ("second", NOW)], "nobody waits"
    assert leaving.at_work == {"first", "second", "waits"}, "this agent goes on as before"
    await leaving.lanes.give_up()


async def test_a_turn_that_was_let_go_while_its_actions_waited_does_not_begin() -> None:
    leaving = Leaving()
    turn = Turn(requested("late", content="late"), 0, 0, 1, TurnState.RUNNING)
    leaving.lanes.abandon([turn])
    leaving.lanes._start(turn, asyncio.sleep(60))
    assert "late" not in leaving.at_work
    await leaving.lanes.give_up()


async def test_a_retry_of_an_earlier_turn_does_not_make_it_the_latest() -> None:
    """The next turn would not see those that came after it."""
    frames, cache = Kafka(), ContextCache(10_000)
    runner: Any = None
    lanes = Lanes(runner, cast("Producer", frames), cache, lambda: NOW)
    cache.put(requested("1").conversation_id, "user-1", 0, ends_in_leaf=True)
    first, second = requested("1"), requested("2")
    outcome = replied(first)
    await lanes.perform([End(first, outcome), End(second, replied(second, parent_id=first.reply_message_id))])
    entry = cache.get(first.conversation_id)
    assert entry is not None
    assert entry.leaf == second.reply_message_id
    await lanes.perform([Repeat(first, outcome)])
    assert entry.leaf == second.reply_message_id
    assert len(frames.asked) == 3, "the retry gets its end"
