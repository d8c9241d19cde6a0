"""What API.md rules out, and no other rule tells."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.facts import Facts, View
from tests.chaos.history import Connection, Exchange, tells_outcome
from tests.chaos.rules.violation import Violation

_RETRYABLE = frozenset({429, 503})
_STATUSES = {
    "turn": {200},
    "conversations": {200},
    "messages": {200},
    "cancel": {202, 409},
    "resume": {204},
}


def protocol(facts: Facts) -> Iterator[Violation]:
    """Of answers and streams."""
    for oddity in facts.history.oddities:
        yield Violation("protocol", oddity.subject, f"{oddity.user} at {oddity.at:.1f} s: {oddity.text}")
    for exchange in facts.history.exchanges:
        if not _is_answer(exchange):
            text = f"{exchange.what} {exchange.subject} was answered with {exchange.status} {exchange.body}"
            yield Violation("protocol", exchange.subject, text)
    for connection in facts.history.connections:
        if not _is_stream(connection):
            text = f"{connection.method} was answered with {connection.status} {connection.body}"
            yield Violation("protocol", connection.turn_id or connection.key, text)
    turns: dict[str, str | None] = {}
    for view in facts.all_views:
        yield from (Violation("protocol", view.turn_id, f"view {view.number}: {text}") for text in view.problems)
        yield from _ids_of_one_turn(view, turns)


def _is_answer(exchange: Exchange) -> bool:
    if exchange.status is None or exchange.status in _STATUSES.get(exchange.what, ()):
        return True
    if exchange.what == "chat" and (exchange.status in (200, 202) or tells_outcome(exchange.body)):
        return exchange.status != 200 or tells_outcome(exchange.body)
    if exchange.what == "turn" and exchange.status == 404 and exchange.final:
        return True  # rule 1 tells
    return exchange.status in _RETRYABLE


def _is_stream(connection: Connection) -> bool:
    return connection.status is None or connection.status == 200 or connection.status in _RETRYABLE


def _ids_of_one_turn(view: View, turns: dict[str, str | None]) -> Iterator[Violation]:
    """An event's id belongs to one turn: a client may send it with any request."""
    for event in view.events:
        if event.id and turns.setdefault(event.id, view.turn_id) != view.turn_id:
            yield Violation("protocol", view.turn_id, f"the id {event.id} belongs to {turns[event.id]}, too")
