"""What the subscriber remembers of turns that it let go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.unit.agent.events import requested

from logue_agent.partition import SIDE_TOPICS, OwnedPartition
from logue_agent.subscriber import Subscriber


def test_attempts_grow_also_when_generations_begin_anew_and_the_log_knows_of_none() -> None:
    """An attempt may be shown before it is announced; the stand-in's generations begin at 1 when it restarts."""
    quiet: Any = SimpleNamespace(abandon=lambda _: None, drop_partition=lambda _: None)
    subscriber = Subscriber(quiet, quiet, quiet, quiet)

    def attempt_of_a_turn(generation: int) -> int:
        subscriber._generation = generation
        partition = OwnedPartition(0, 0, dict.fromkeys(SIDE_TOPICS, 0), subscriber._next_attempt)
        subscriber._owned[0] = partition
        partition.requested(0, requested("1"))
        [turn] = partition.turns.values()
        return turn.attempt

    attempts = []
    for generation in (5, 1, 1, 9):
        attempts.append(attempt_of_a_turn(generation))
        subscriber._let_go({0})
    assert attempts == [5, 6, 7, 9]
