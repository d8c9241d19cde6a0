"""1: what was acknowledged is there in the end, once; what was never acknowledged may be there, but not twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.chaos.facts import Facts, Turn
from tests.chaos.rules.violation import Violation


def existence(facts: Facts) -> Iterator[Violation]:
    """Of turns, messages and conversations."""
    for turn in facts.turns.values():
        yield from (Violation("1 lost", turn.name, text) for text in _lost(turn))
        yield from (Violation("1 duplicate", turn.name, text) for text in _twice(turn))
    known = {question["id"] for turn in facts.turns.values() for _, question in turn.questions}
    known |= {reply["id"] for turn in facts.turns.values() for reply in turn.replies}
    for messages in facts.lists.values():
        for message in messages:
            if message["id"] not in known:
                yield Violation("1 duplicate", message["turn_id"], f"nobody sent, or was answered by, {message}")
    for (user, conversation_id), count in Counter(facts.conversations).items():
        if count > 1:
            yield Violation("1 duplicate", None, f"{user} has {conversation_id} {count} times in the list")
    for (user, conversation_id), turns in facts.by_conversation.items():
        if (user, conversation_id) not in facts.conversations and any(turn.acks for turn in turns):
            yield Violation("1 lost", None, f"{user} does not have {conversation_id} in the list")


def _lost(turn: Turn) -> Iterator[str]:
    if turn.acks and not turn.questions:
        yield "was acknowledged, but its message is in no list"
    if turn.absent:
        yield "is not there in the end"


def _twice(turn: Turn) -> Iterator[str]:
    stored = turn.stored or {}
    ids = {ack.turn_id for ack in turn.acks} | {item["turn_id"] for _, item in turn.questions}
    ids = (ids | {stored.get("turn_id")}) - {None}
    if len(ids) > 1:
        yield f"one key, {len(ids)} turns: {sorted(ids, key=str)}"
    conversations = {ack.conversation_id for ack in turn.acks} | {each for each, _ in turn.questions}
    conversations = (conversations | {turn.ask.conversation_id, stored.get("conversation_id")}) - {None}
    if len(conversations) > 1:
        yield f"in several conversations: {sorted(conversations, key=str)}"
    if len(turn.questions) > 1:
        yield f"its message is listed {len(turn.questions)} times"
    if len(turn.replies) > 1:
        yield f"it has {len(turn.replies)} replies"
