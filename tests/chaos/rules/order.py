"""3: the order in each conversation, and the path that each turn continues."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from tests.chaos.facts import Facts, Turn
from tests.chaos.history import History
from tests.chaos.rules.paths import path_of, ran
from tests.chaos.rules.violation import CLOCK_SECONDS, Violation


def order(facts: Facts) -> Iterator[Violation]:
    """Of messages in lists, and of turns in time."""
    for key, messages in facts.lists.items():
        turn_ids = [turn_id for turn_id, _ in itertools.groupby(message["turn_id"] for message in messages)]
        if len(set(turn_ids)) < len(turn_ids):
            yield Violation("3 order", None, f"messages of a turn stand apart in {key[1]}: {turn_ids}")
        for turn_id, group in itertools.groupby(messages, key=lambda message: message["turn_id"]):
            roles = [message["role"] for message in group]
            if roles not in (["user"], ["user", "assistant"]):
                yield Violation("3 order", turn_id, f"its messages are listed as {roles}")
        turns = [turn for turn_id in turn_ids if (turn := facts.by_id.get((key[0], turn_id))) is not None]
        yield from _acknowledged_in_order(turns)
        if facts.clocks_agree:
            yield from _one_after_the_other(facts.history, turns)
    yield from _never_rearranged(facts)


def _acknowledged_in_order(turns: list[Turn]) -> Iterator[Violation]:
    """Acknowledged before another was sent: listed before it."""
    for earlier, later in itertools.combinations(turns, 2):
        if later.acknowledged_at < earlier.ask.at:
            text = f"was sent after {later.name} had been acknowledged, but is listed before it"
            yield Violation("3 order", earlier.name, text)


def _one_after_the_other(history: History, turns: list[Turn]) -> Iterator[Violation]:
    """Those that the model was asked for."""
    stored = [turn.stored for turn in turns if turn.stored and turn.stored["started_at"] and turn.stored["finished_at"]]
    for earlier, later in itertools.pairwise(stored):
        if history.at(later["started_at"]) < history.at(earlier["finished_at"]) - CLOCK_SECONDS:
            yield Violation("3 order", later["turn_id"], f"began before {earlier['turn_id']} was over")


def _never_rearranged(facts: Facts) -> Iterator[Violation]:
    """A list read on the way is a part of the one read in the end: nothing vanishes, moves or changes."""
    for exchange in facts.history.exchanges:
        if exchange.what != "messages" or exchange.final or exchange.status != 200:
            continue
        final = {m["id"]: (n, m) for n, m in enumerate(facts.lists.get((exchange.user, exchange.subject), []))}
        places = [final.get(message["id"], (-1, None))[0] for message in exchange.body["items"]]
        if places != sorted(places) or -1 in places or len(set(places)) < len(places):
            text = f"a list of {exchange.subject} had its messages at the places {places} of the final one"
            yield Violation("3 order", None, text)
        for message in exchange.body["items"]:
            if message["id"] in final and message["content"] != final[message["id"]][1]["content"]:
                yield Violation("1 outcome", message["turn_id"], "a listed message changed")


def contexts(facts: Facts) -> Iterator[Violation]:
    """That a reply tells just the path of its turn is checked with the texts."""
    for (user, _), messages in facts.lists.items():
        last_reply: str | None = None
        for turn_id, group in itertools.groupby(messages, key=lambda message: message["turn_id"]):
            turn = facts.by_id.get((user, turn_id))
            question, *replies = group
            if turn is not None:
                yield from (
                    Violation("3 context", turn.name, text) for text in _path(facts, turn, question, last_reply)
                )
            for reply in replies:
                last_reply = reply["id"]
                if reply["parent_id"] != question["id"]:
                    yield Violation("3 context", turn_id, f"its reply follows {reply['parent_id']}, not its question")


def _path(facts: Facts, turn: Turn, question: dict[str, Any], last_reply: str | None) -> Iterator[str]:
    """`last_reply`: of the latest earlier turn that has one (ADR 0012)."""
    asked_for = turn.ask.parent_id
    expected = last_reply if asked_for is None else None if asked_for == "root" else asked_for
    # A turn that never ran was not given a parent, unless its client named one.
    allowed = {expected} if ran(turn) or asked_for is not None else {expected, None}
    if turn.end is not None and question["parent_id"] not in allowed:
        yield f"it follows {question['parent_id']}, not {expected}"
    if ran(turn) and path_of(facts, turn, question) is None:
        yield "its path leads to a message that is not there"
