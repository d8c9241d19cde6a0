"""5: nobody waits in vain, and nothing is unfinished in the end."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tests.chaos.facts import Facts
from tests.chaos.history import TERMINAL, Fault, GaveUp
from tests.chaos.rules.violation import RECOVERY_SECONDS, Violation, may_explain


def waiting(facts: Facts) -> Iterator[Violation]:
    """Of clients, and of turns."""
    history = facts.history
    if history.settled_at is None:
        yield Violation("5 stuck", None, "the run did not get to its end")
    for gave_up in history.give_ups:
        if _is_stuck(gave_up, history.faults):
            seconds = gave_up.ended - gave_up.began
            text = f"{gave_up.user} waited {seconds:.1f} s in vain from {gave_up.began:.1f} s on: {gave_up.what}"
            yield Violation("5 stuck", gave_up.subject, text)
    for turn in facts.turns.values():
        if not (turn.acks or turn.questions) or turn.absent:
            continue
        if turn.stored is None:
            yield Violation("5 stuck", turn.name, "could not be read in the end")
        elif turn.stored["status"] not in TERMINAL:
            yield Violation("5 stuck", turn.name, f"is still {turn.stored['status']} in the end")


def _is_stuck(gave_up: GaveUp, faults: list[Fault]) -> bool:
    """Whether it waited in vain although nothing was broken, or for longer than recovery takes after it was."""
    behind = [fault.ended for fault in faults if may_explain(fault, gave_up.began, gave_up.ended)]
    mended_at = max((math.inf if ended is None else ended for ended in behind), default=-math.inf)
    return gave_up.ended >= mended_at + RECOVERY_SECONDS
