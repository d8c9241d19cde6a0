"""What becomes of the work in hand when an agent leaves."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from tests.unit.agent.events import NOW, requested

from logue_agent.lanes import Lanes
from logue_agent.turn import Turn, TurnState

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
