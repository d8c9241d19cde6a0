"""1: a turn has one outcome, the same wherever it is told, and one that something explains."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from tests.chaos.facts import End, Facts, Turn
from tests.chaos.history import TERMINAL
from tests.chaos.rules.violation import CLOCK_SECONDS, Violation, may_explain

_LISTED = ("id", "role", "content", "parent_id", "created_at")
_TIMES = ("requested_at", "started_at", "first_token_at", "finished_at")
_DRIFT_SECONDS = 1.0
"""The run's clock never steps, that of the services may."""


def outcomes(facts: Facts) -> Iterator[Violation]:
    """Of every turn."""
    for turn in facts.turns.values():
        texts = [_told_otherwise(turn)]
        if turn.stored is not None and turn.end is not None:
            texts += [_changed(turn), _incomplete(turn.stored, turn.end), _listed_otherwise(turn, turn.end)]
            if facts.clocks_agree:
                texts.append(_at_odd_times(facts, turn.ask.at, turn.stored, turn.end))
            if not _explained(facts, turn, turn.end):
                texts.append(iter([f"nothing explains that its outcome is {turn.end.status} {turn.end.code or ''}"]))
        yield from (Violation("1 outcome", turn.name, text) for text in itertools.chain.from_iterable(texts))


def _told_otherwise(turn: Turn) -> Iterator[str]:
    for end in turn.ends:
        if turn.end is not None and (difference := _difference(end, turn.end)):
            yield f"{end.place} told another outcome than is stored: {difference}"
        if end.turn_id != turn.id:
            yield f"{end.place} told the end of {end.turn_id}"
    told = {ack.question_id for ack in turn.acks} - {None}
    if turn.questions and told - {question["id"] for _, question in turn.questions}:
        yield f"its question was told to be {told}, not {turn.questions}"


def _difference(told: End, stored: End) -> str:
    """What differs in what both tell. Of a cancelled turn the text is told, and nothing else."""
    if told.status != stored.status:
        return f"{told.status}, not {stored.status} ({told.code or stored.code})"
    if told.status == "failed":
        return "" if told.code == stored.code else f"{told.code}, not {stored.code}"
    if told.content != stored.content:
        return f"the text {told.content!r}, not {stored.content!r}"
    if told.status == "completed":
        message = {name: (stored.message or {}).get(name) for name in _LISTED}
        if (told.message, told.usage) != (message, stored.usage):
            return f"{told.message} with {told.usage}, not {message} with {stored.usage}"
    return ""


def _changed(turn: Turn) -> Iterator[str]:
    """What is over stays as it is."""
    over = False
    for poll in sorted(turn.polls, key=lambda poll: poll.began):
        over = over or poll.body["status"] in TERMINAL
        if over and poll.body != (stored := turn.stored or {}):
            changed = {name: (told, stored.get(name)) for name, told in poll.body.items() if told != stored.get(name)}
            yield f"it changed after its end: {changed or sorted(stored.keys() - poll.body.keys())}"


def _incomplete(stored: dict[str, Any], end: End) -> Iterator[str]:
    if (end.message is not None) != (end.status == "completed" or (end.status == "cancelled" and bool(end.content))):
        yield f"it is {end.status} and its message is {end.message}"
    if (end.code is not None) != (end.status == "failed") or (stored["error"] is not None) != (end.status == "failed"):
        yield f"it is {end.status} and its error is {stored['error']}"
    if stored["attempt"] < 1:
        yield f"it is {end.status} in attempt {stored['attempt']}"


def _at_odd_times(facts: Facts, sent_at: float, stored: dict[str, Any], end: End) -> Iterator[str]:
    times = [stored[name] for name in _TIMES]
    if times[0] is None or times[3] is None or (end.status == "completed" and None in times):
        yield f"times are missing: {times}"
    moments = [sent_at - _DRIFT_SECONDS, *(facts.history.at(each) for each in times if each is not None)]
    if any(later < earlier - CLOCK_SECONDS for earlier, later in itertools.pairwise(moments)):
        yield f"its times are not in order: {times}"


def _listed_otherwise(turn: Turn, end: End) -> Iterator[str]:
    for _, question in turn.questions:
        expected = (end.status, None, (turn.stored or {}).get("requested_at"))
        if (found := (question["status"], question["usage"], question["created_at"])) != expected:
            yield f"its question is listed with {found}, not {expected}"
    stored = [] if end.message is None else [{name: end.message[name] for name in _LISTED}]
    listed = [{name: reply[name] for name in _LISTED} for reply in turn.replies]
    if listed != stored:
        yield f"its reply is {stored}, and listed as {listed}"
    for reply in turn.replies:
        if (reply["status"], reply["usage"]) != (end.status, end.usage):
            yield f"it is {end.status} with {end.usage}; its reply is listed as {reply['status']} with {reply['usage']}"


def _explained(facts: Facts, turn: Turn, end: End) -> bool:
    ask, over_at = turn.ask, turn.over_at
    if end.status == "completed":
        return ask.answer != "none"
    if end.status == "cancelled":
        others = facts.by_conversation.get((ask.user, turn.conversation_id or ""), [])
        interrupted = (o.ask.on_busy == "interrupt" and o.ask.at <= over_at for o in others if o is not turn)
        return turn.cancelled or any(interrupted)
    match end.code:
        case "conversation_busy":
            return ask.on_busy == "reject"
        case "model_error" if ask.answer == "none":
            return True
        case "model_error" | "model_timeout" | "context_unavailable":
            return any(may_explain(fault, ask.at, over_at) for fault in facts.history.faults)
    return False
