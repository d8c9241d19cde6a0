"""Decides from the record of a run alone whether Logue kept its promises. Pure.

| Rule | What must hold |
| --- | --- |
| 1 lost | what was acknowledged is there in the end |
| 1 duplicate | nothing is there twice: one key, one turn, one question, at most one reply |
| 1 outcome | a turn has one outcome, the same for everybody, and one that something explains |
| 2 text | what a client assembled is what is stored, and at any time a beginning of what the model says |
| 3 order | a list respects who was acknowledged before whom was sent, never changes, and is how the turns ran |
| 3 context | each turn saw exactly its path through the conversation; a null parent is what ADR 0012 says |
| 4 isolation | nobody saw a byte of anybody else |
| 5 stuck | nobody waits in vain, nothing is unfinished |
| 6 usage | recorded usage was billed for that very message, and completed turns have one |
| protocol | nothing happened that API.md rules out |
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from tests.chaos.facts import Facts
from tests.chaos.history import History
from tests.chaos.rules import existence, isolation, order, outcomes, protocol, texts, usage, waiting
from tests.chaos.rules.violation import Violation

__all__ = ["Violation", "check"]

RULES: tuple[Callable[[Facts], Iterator[Violation]], ...] = (
    existence.existence,
    outcomes.outcomes,
    texts.texts,
    order.order,
    order.contexts,
    isolation.isolation,
    waiting.waiting,
    usage.usage,
    protocol.protocol,
)


def check(history: History) -> list[Violation]:
    """Everything that is wrong; nothing if all promises were kept."""
    facts = Facts(history)
    return list(itertools.chain.from_iterable(rule(facts) for rule in RULES))
