"""6: the usage that is recorded per turn adds up to what the model server billed for outcomes that count."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.facts import Facts
from tests.chaos.rules.isolation import MARKER
from tests.chaos.rules.violation import Violation


def usage(facts: Facts) -> Iterator[Violation]:
    """A completed turn has a usage that was billed for its message. One that was cancelled or has failed has none,
    or, where it was stopped between the model's last words and its outcome, one that was billed, too. So the usage of
    all turns is the bill less what was generated for attempts that do not count (`uncounted` of the figures).
    """
    if not facts.history.bills:
        yield Violation("6 usage", None, "the bill was not read")
        return
    bill = facts.history.bills[-1]
    for turn in facts.turns.values():
        if turn.end is None:
            continue
        billed = bill.by_message.get(turn.ask.message, [])
        # A model server that was restarted has forgotten what came before.
        is_remembered = turn.ask.at >= bill.since - facts.history.began_at
        if turn.end.usage is None and turn.end.status == "completed":
            yield Violation("6 usage", turn.name, "is completed, but has no usage")
        if turn.end.usage is not None and turn.end.usage not in billed and is_remembered:
            yield Violation("6 usage", turn.name, f"has {turn.end.usage}; billed was {billed}")
    asked = {turn.ask.message for turn in facts.turns.values()}
    for message in bill.by_message:
        if message not in asked and set(MARKER.findall(message)) & set(facts.history.users.values()):
            yield Violation("6 usage", None, f"billed was {message!r}, which nobody sent")
