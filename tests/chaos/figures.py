"""The figures of a run: how much was done, how it went on, and how long anybody had to wait."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.measure import quantile
from tests.chaos.checker import Violation, check
from tests.chaos.facts import Facts, View
from tests.chaos.history import Fault, History
from tests.e2e.sse import ENDS

_AFTERMATH_SECONDS = 10.0
"""A pause that begins this soon after a fault ended may still be its work: group rebalances, reconnections."""
_TEXT = frozenset({"message.delta", "message.snapshot"})


@dataclass(frozen=True, slots=True)
class Pause:
    """A time in which a client that listened saw no progress."""

    began: float
    seconds: float
    turn: str | None


def figures(history: History, violations: Sequence[Violation] | None = None) -> dict[str, Any]:
    """Of the whole run, in a form for JSON. `violations` spares checking twice."""
    facts = Facts(history)
    turns = list(facts.turns.values())
    rules = Counter(violation.rule for violation in (check(history) if violations is None else violations))
    outcomes = Counter(turn.end.status for turn in turns if turn.end is not None)
    codes = Counter(turn.end.code for turn in turns if turn.end is not None and turn.end.code is not None)
    statuses = Counter(exchange.status for exchange in history.exchanges)
    statuses.update(connection.status for connection in history.connections)
    pauses = [pause for view in facts.all_views for pause in pauses_of(view)]
    first_text = [seconds for view in facts.all_views if (seconds := _first_text_seconds(facts, view)) is not None]
    return {
        "seed": history.seed,
        "users": len(history.users),
        "turns": len(turns),
        "acknowledged": sum(bool(turn.acks) for turn in turns),
        **{status: outcomes[status] for status in ("completed", "failed", "cancelled")},
        "failed_by_code": dict(codes),
        "kinds": dict(Counter(turn.ask.kind for turn in turns)),
        "views": len(facts.all_views),
        "streams_resumed": sum(len(view.connections) > 1 for view in facts.all_views),
        "reconnects": sum(len(view.connections) - 1 for view in facts.all_views),
        "broken_connections": statuses[None],
        "asked_to_come_back": statuses[429] + statuses[503],
        "resets": sum(view.resets for view in facts.all_views),
        "snapshots": sum(view.snapshots for view in facts.all_views),
        "gave_up": len(history.give_ups),
        "lost": rules["1 lost"],
        "duplicated": rules["1 duplicate"],
        "wrong_order": rules["3 order"],
        "cross_user": rules["4 isolation"],
        "violations": dict(rules),
        "first_text_seconds": _summary(first_text),
        "longest_pause": _pause(history, pauses),
        "longest_pause_by_fault": _by_fault(history, pauses),
        "usage": _usage(facts),
    }


def pauses_of(view: View) -> Iterable[Pause]:
    """Between one event and the next, but not while the turn waited for others or the client was away on purpose."""
    since, waits = view.connections[0].began, False
    for number, connection in enumerate(view.connections):
        if number and view.connections[number - 1].ending == "left":
            since = connection.began
        for event in connection.events:
            if not waits:
                yield Pause(since, event.at - since, view.turn_id)
            since, waits = event.at, event.name == "turn.queued"
            if event.name in ENDS:
                return
    last = view.connections[-1]
    if last.ending != "left" and not waits:
        yield Pause(since, last.ended - since, view.turn_id)


def _first_text_seconds(facts: Facts, view: View) -> float | None:
    """From sending a question to its first text, where nothing but Logue and a prompt model lay between."""
    turn = facts.turns.get(view.key)
    first = view.connections[0]
    if turn is None or turn.ask.kind == "flaky" or first.method != "POST" or first.began > turn.ask.at + 0.1:
        return None
    for event in view.events:
        if event.name == "turn.queued":
            return None
        if event.name in _TEXT:
            return event.at - turn.ask.at
    return None


def _by_fault(history: History, pauses: Sequence[Pause]) -> dict[str, Any]:
    faults: dict[str, list[Fault]] = defaultdict(list)
    for fault in history.faults:
        faults[fault.kind].append(fault)
    return {
        kind: _pause(history, [pause for pause in pauses if any(_falls_into(pause, fault) for fault in of_kind)])
        for kind, of_kind in faults.items()
    }


def _falls_into(pause: Pause, fault: Fault) -> bool:
    ended = math.inf if fault.ended is None else fault.ended + _AFTERMATH_SECONDS
    return pause.began <= ended and pause.began + pause.seconds >= fault.began


def _pause(history: History, pauses: Sequence[Pause]) -> dict[str, Any] | None:
    if not pauses:
        return None
    longest = max(pauses, key=lambda pause: pause.seconds)
    return {
        "seconds": round(longest.seconds, 3),
        "began": round(longest.began, 3),
        "time": history.wall(longest.began).isoformat(timespec="milliseconds"),
        "turn": longest.turn,
    }


def _summary(seconds: Sequence[float]) -> dict[str, Any]:
    if not seconds:
        return {"n": 0}
    return {"n": len(seconds), **{f"p{p}": round(quantile(seconds, p / 100), 4) for p in (50, 95, 99)}}


def _usage(facts: Facts) -> dict[str, int]:
    """Tokens of turns, and what was billed beside them: completions of attempts that do not count."""
    bill = facts.history.bills[-1].by_message if facts.history.bills else {}
    asked = {turn.ask.message for turn in facts.turns.values()}
    billed = [usage for message, usages in bill.items() if message in asked for usage in usages]
    counted = [turn.end.usage for turn in facts.turns.values() if turn.end is not None and turn.end.usage is not None]
    return {
        "counted_completions": len(counted),
        "counted_tokens": sum(usage["total_tokens"] for usage in counted),
        "billed_completions": len(billed),
        "billed_tokens": sum(usage["total_tokens"] for usage in billed),
        "uncounted_completions": len(billed) - len(counted),
    }
