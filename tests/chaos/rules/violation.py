"""What a rule finds, and what several rules go by."""

from __future__ import annotations

from dataclasses import dataclass

from tests.chaos.history import Fault

RECOVERY_SECONDS = 60.0
"""After the end of a fault everything goes on within this time."""
CLOCK_SECONDS = 0.05
"""The times of day that the processes of one machine write down agree this far."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept. `turn` is its id, or what is known of it."""

    rule: str
    turn: str | None
    text: str


def may_explain(fault: Fault, began: float, ended: float) -> bool:
    """Whether the fault, or what it left behind, can have had a part in what went on then."""
    return fault.began <= ended and (fault.ended is None or fault.ended + RECOVERY_SECONDS >= began)
