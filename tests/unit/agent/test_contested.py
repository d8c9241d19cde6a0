"""Two processes take themselves for the owner of a partition: the group says which of them goes on (ADR 0022)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.unit.agent.events import NOW, replied, requested
from tests.unit.agent.test_partition import Owner

from logue_agent.actions import Abandon, Decide, End, Run
from logue_common.events import ChatRequested


def test_a_later_attempt_in_the_log_restarts_a_turn_once_the_group_has_confirmed_its_owner() -> None:
    owner = Owner(generation=5)
    request = requested("1")
    [run] = owner.request(request)
    assert owner.start(request, attempt=5) == []
    assert owner.start(request, attempt=6) == [Abandon(run.turn)]
    assert owner.partition.contested
    assert owner.request(requested("2", "b")) == [], "nothing begins meanwhile"
    again, other = owner.partition.confirmed()
    assert (again, again.turn.attempt, again.turn.taken_over) == (run, 7, True)
    assert isinstance(other, Run)
    assert isinstance(owner.request(requested("3", "c"))[0], Run)


def test_a_contested_owner_tells_nobody_how_turns_wait_and_begins_none_that_was_decided_meanwhile() -> None:
    owner = Owner(generation=5)
    first, second, third = (requested(str(n)) for n in (1, 2, 3))
    for request in (first, second, third):
        owner.request(request)
    owner.start(first, attempt=6)
    [end] = owner.reply(replied(first, attempt=6))
    assert isinstance(end, End)
    [run] = owner.partition.confirmed()
    assert run.turn.turn_id == second.turn_id


def test_an_attempt_at_a_waiting_turn_contests_it_too_even_one_of_the_number_that_was_planned() -> None:
    """Two owners may have come and gone: what runs would be shown as a part of the other's text."""
    owner = Owner(generation=5)
    owner.request(requested("1"))
    waiting = requested("2")
    owner.request(waiting)
    assert owner.start(waiting, attempt=4) == []
    assert not owner.partition.contested
    owner.start(waiting, attempt=5)
    assert owner.partition.contested
    assert owner.partition.turns[waiting.turn_id].attempt == 6
    owner.reply(replied(requested("1")))
    [run] = owner.partition.confirmed()
    assert (run.turn.turn_id, run.turn.attempt, run.turn.taken_over) == (waiting.turn_id, 6, True)


def test_a_turn_that_is_stopped_while_it_is_contested_is_decided_by_its_owner() -> None:
    """The other may have text of it, and keeps that."""
    owner, request = Owner(generation=5), requested("1")
    owner.request(request)
    owner.start(request, attempt=6)
    assert owner.cancel(request) == []
    [decide] = owner.partition.confirmed()
    assert isinstance(decide, Decide)
    assert decide.problem is None
    assert owner.partition.confirmed() == []


def test_what_would_be_refused_by_a_contested_lane_is_decided_by_its_owner() -> None:
    """The lane may be an old one: the other has answered what it still waits for."""
    owner, first, second = Owner(generation=5), requested("1"), requested("2", on_busy="reject")
    owner.request(first)
    owner.start(first, attempt=6)
    assert owner.request(second) == []
    assert owner.request(requested("3")) == [], "nor is anybody told how long it waits"
    decide, run = owner.partition.confirmed()
    assert (decide.turn.turn_id, decide.problem.code) == (second.turn_id, "conversation_busy")
    assert (run.turn.turn_id, run.turn.attempt) == (first.turn_id, 7)

    owner.start(first, attempt=8)
    owner.request(requested("4", on_busy="reject"))
    owner.reply(replied(requested("4"), attempt=8))
    assert [type(action) for action in owner.partition.confirmed()] == [Run], "the other has answered it"


def test_an_attempt_that_its_owner_finishes_after_it_left_is_waited_for_also_when_it_came_in_between() -> None:
    owner, request = Owner(generation=5), requested("1")
    owner.request(request)
    owner.start(request, attempt=6, finishes_by=NOW + timedelta(seconds=20))
    assert owner.partition.confirmed() == []
    assert owner.partition.overdue(NOW + timedelta(seconds=19), 0.0) == []
    [run] = owner.partition.overdue(NOW + timedelta(seconds=20), 0.0)
    assert run.turn.attempt == 7


def test_two_that_take_themselves_for_the_owner_do_not_outbid_each_other() -> None:
    """One is cut off from its group alone: it reads, and writes, and learns late that the other has its partition."""
    former, latter = Owner(generation=1), Owner(generation=2)
    requests = [requested("1"), requested("2")]
    log: list[tuple[ChatRequested, int]] = []

    def ran(actions: list[Any]) -> None:
        log.extend((action.turn.request, action.turn.attempt) for action in actions if isinstance(action, Run))

    for request in requests:
        ran(former.request(request))
    latter.start(*log[0])
    for request in requests:
        ran(latter.request(request))
    ran(latter.reply(replied(requests[0], attempt=2)))
    read = {former: 0, latter: 1}
    for _ in range(10):
        for owner in (former, latter):
            for event in log[read[owner] :]:
                ran(owner.start(*event))
                read[owner] += 1
    ran(former.reply(replied(requests[0], attempt=2)))
    assert log == [(requests[0], 1), (requests[0], 2), (requests[1], 2)]
