"""The overload guard against a simulated queue: what is accepted stays fast, whatever comes."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass

import pytest

from logue_common.errors import ProblemError
from logue_gateway import metrics
from logue_gateway.overload import CALM_SECONDS, PATIENCE_SECONDS, OverloadGuard

#: Below the objective of 200 ms, as the default.
LIMIT_SECONDS = 0.15


@dataclass
class Run:
    """What became of each arrival: (time, added seconds, or None when it was refused)."""

    turns: list[tuple[float, float | None]]

    def added(self, begin: float, end: float) -> list[float]:
        return sorted(added for at, added in self.turns if begin <= at < end and added is not None)

    def refused(self, begin: float = 0.0, end: float = float("inf")) -> int:
        return sum(1 for at, added in self.turns if begin <= at < end and added is None)


def simulate(
    load: list[tuple[float, float]],
    *,
    capacity: float = 100.0,
    model: float = 0.0,
    gateways: int = 1,
    outage: tuple[float, float] = (-1.0, -1.0),
    seed: int = 1,
) -> Run:
    """One server in front of a model, with `capacity` turns a second; `load` is (seconds, arrivals a second)."""
    rng = random.Random(seed)
    now = free = 0.0
    guards = [OverloadGuard(LIMIT_SECONDS, lambda: now) for _ in range(gateways)]
    answers: list[tuple[float, str, int, float]] = []
    turns: list[tuple[float, float | None]] = []
    for begin, end, rate in _spans(load):
        at = begin + rng.expovariate(rate)
        while at < end:
            while answers and answers[0][0] <= at:
                now, answered, which, took = heapq.heappop(answers)
                guards[which].answered(answered, took)
            now = at
            turn, which = f"{len(turns)}", rng.randrange(gateways)
            try:
                guards[which].require_room()
            except ProblemError:
                turns.append((at, None))
            else:
                guards[which].asked(turn)
                start = max(at, free)
                start = outage[1] if outage[0] <= start < outage[1] else start
                free = start + rng.uniform(0.5, 1.5) / capacity
                took = model * rng.uniform(0.5, 1.5)
                heapq.heappush(answers, (free + took, turn, which, took))
                turns.append((at, free - at))
            at += rng.expovariate(rate)
    return Run(turns)


def _spans(load: list[tuple[float, float]]) -> list[tuple[float, float, float]]:
    begin, spans = 0.0, []
    for seconds, rate in load:
        spans.append((begin, begin + seconds, rate))
        begin += seconds
    return spans


@pytest.mark.parametrize("model", [0.0, 1.0], ids=["fast model", "slow model"])
@pytest.mark.parametrize("gateways", [1, 2])
def test_at_three_times_the_capacity_accepted_turns_keep_their_latency(gateways: int, model: float) -> None:
    run = simulate([(10, 50), (300, 300), (30, 50)], gateways=gateways, model=model)
    assert run.refused(0, 10) == 0
    added = run.added(10, 310)
    # What is measured of a slow model is a second old, and two gateways take turns in being wrong.
    assert added[int(len(added) * 0.95)] < (0.3 if model else 0.2)
    assert len(added) / 300 > 90, "and the capacity is used"
    assert run.refused(320) == 0, "it is over 10 s after the load is"


def test_below_capacity_nobody_is_refused() -> None:
    assert simulate([(120, 80)]).refused() == 0


def test_a_burst_is_taken_and_waits() -> None:
    run = simulate([(5, 20), (0.25, 1000), (20, 20)])
    assert run.refused() == 0
    assert run.added(0, 30)[-1] > 1


def test_the_pause_of_a_takeover_is_no_overload() -> None:
    assert simulate([(60, 50)], outage=(10, 16)).refused() < 60 * 50 * 0.05


def test_without_agents_everything_is_accepted() -> None:
    run = simulate([(300, 50)], outage=(0, 301))
    assert run.refused() == 0


def test_a_conversation_that_waits_for_itself_is_no_overload() -> None:
    now = 0.0
    guard = OverloadGuard(LIMIT_SECONDS, lambda: now)
    for n in range(1000):
        now = n * 0.05
        guard.require_room()
        guard.asked(f"{n}")
        guard.forget(f"{n}")  # turn.queued
        guard.answered(f"{n}", 0.0)
    assert guard.limit is None
    assert guard.waiting == 0


def test_turns_that_are_never_answered_do_not_fill_it() -> None:
    now = 0.0
    guard = OverloadGuard(LIMIT_SECONDS, lambda: now)
    for n in range(4000):
        now = n * 0.1
        guard.require_room()
        guard.asked(f"{n}")
    assert guard.waiting <= 601


def test_a_limit_goes_when_it_is_not_needed() -> None:
    now = 0.0
    guard = OverloadGuard(LIMIT_SECONDS, lambda: now)

    def serve(seconds: float, added: float) -> None:
        nonlocal now
        end = now + seconds
        while now < end:
            guard.require_room()
            guard.asked("a")
            now += added
            guard.answered("a", 0.0)
            now += 0.02

    serve(PATIENCE_SECONDS + 2, 0.16)
    assert guard.limit is not None
    for n in range(int(guard.limit) + 1):
        guard.asked(f"waits {n}")
    with pytest.raises(ProblemError) as refused:
        guard.require_room()
    assert refused.value.code == "overloaded"
    for n in range(int(guard.limit) + 1):
        guard.forget(f"waits {n}")
    serve(CALM_SECONDS + 2, 0.01)
    assert guard.limit is None


def test_the_gauge_of_unanswered_turns_goes_down_with_the_last_one() -> None:
    guard = OverloadGuard(0.15, lambda: 0.0)
    for turn in ("answered", "forgotten"):
        guard.asked(turn)
    guard.answered("answered", 0.0)
    assert metrics.TURNS_AHEAD._value.get() == 1
    guard.forget("forgotten")
    assert metrics.TURNS_AHEAD._value.get() == 0
