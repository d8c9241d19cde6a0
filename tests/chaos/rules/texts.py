"""2: the text that a client assembled, over all its connections, equals the stored text, character by character."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.chaos.facts import Facts, Turn
from tests.chaos.rules.paths import digest, path_of, ran
from tests.chaos.rules.violation import Violation


def texts(facts: Facts) -> Iterator[Violation]:
    """Of all views, ended or not, and of all stored replies."""
    for turn in facts.turns.values():
        whole = answer_of(facts, turn)
        for view in turn.views:
            shown, stored = view.text, turn.end
            if view.end is not None and stored is not None and stored.status != "failed" and shown != stored.content:
                yield Violation("2 text", turn.name, f"view {view.number} shows {_apart(shown, stored.content or '')}")
            for text in view.texts:
                if whole is not None and not whole.startswith(text):
                    yield Violation("2 text", turn.name, f"view {view.number} showed {_apart(text, whole)}")
        if turn.end is None or turn.end.message is None or whole is None:
            continue
        content = turn.end.message["content"]
        if content != whole and not (turn.end.status == "cancelled" and whole.startswith(content)):
            rule = "3 context" if turn.ask.answer == "context" else "2 text"
            yield Violation(rule, turn.name, f"the stored reply is {_apart(content, whole)}")


def answer_of(facts: Facts, turn: Turn) -> str | None:
    """What the model says to the turn as it is stored; None where that cannot be known."""
    if turn.ask.answer == "echo":
        return turn.ask.echo
    if turn.ask.answer == "none":
        return ""
    if not turn.questions or not ran(turn):
        return None
    _, question = turn.questions[0]
    path = path_of(facts, turn, question)
    if path is None:
        return None
    seen = [{"role": m["role"], "sha256": digest(m["content"])} for m in path]
    return json.dumps(seen, separators=(",", ":"))


def _apart(shown: str, expected: str) -> str:
    """Both texts around the place where they part."""
    at = next((n for n, pair in enumerate(zip(shown, expected, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(shown), len(expected)) if at is None else at
    begin = max(0, at - 20)
    return f"{shown[begin : at + 40]!r} from character {begin} on, not {expected[begin : at + 40]!r}"
