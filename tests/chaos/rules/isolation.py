"""4: nobody ever sees a byte of anybody else."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator

from tests.chaos.facts import Facts
from tests.chaos.rules.paths import digest
from tests.chaos.rules.violation import Violation

MARKER = re.compile(r"mk[0-9a-f]{16}")
"""What all texts of a user contain, and none of anybody else."""
_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")


def isolation(facts: Facts) -> Iterator[Violation]:
    """No text, id or digest of a text that another user has."""
    users = {marker: user for user, marker in facts.history.users.items()}
    id_owners, text_owners = _id_owners(facts), _text_owners(facts)
    for found, by in id_owners.items():
        if len(by) > 1:
            yield Violation("4 isolation", None, f"{found} was given to {sorted(by)}")
    for user, place, text in _seen(facts):
        for marker in set(MARKER.findall(text)) - {facts.history.users.get(user)}:
            yield Violation("4 isolation", None, f"{user} saw a text of {users.get(marker, 'somebody')} in {place}")
        for found in set(_ID.findall(text)):
            if found in id_owners and user not in id_owners[found]:
                yield Violation("4 isolation", None, f"{user} saw {found} of {sorted(id_owners[found])} in {place}")
        for found in set(_DIGEST.findall(text)):
            if user not in text_owners.get(found, ()):
                whose = sorted(text_owners.get(found, {"nobody"}))
                yield Violation("4 isolation", None, f"{user} saw the digest of a text of {whose} in {place}")


def _id_owners(facts: Facts) -> dict[str, set[str]]:
    """Ids, by whom they were given to; those that only the store tells belong to whoever has them there."""
    owners: dict[str, set[str]] = defaultdict(set)
    for turn in facts.turns.values():
        for ack in turn.acks:
            for found in (ack.turn_id, ack.conversation_id):
                if found:
                    owners[found].add(turn.ask.user)
        for end in turn.ends:
            if end.message is not None:
                owners[end.message["id"]].add(turn.ask.user)
    for (user, _), messages in facts.lists.items():
        for message in messages:
            owners.setdefault(message["id"], {user})
    return owners


def _text_owners(facts: Facts) -> dict[str, set[str]]:
    """Digests of all texts that were sent or stored, by whose they are."""
    owners: dict[str, set[str]] = defaultdict(set)
    for turn in facts.turns.values():
        for text in (turn.ask.message, *(reply["content"] for reply in turn.replies)):
            owners[digest(text)].add(turn.ask.user)
    return owners


def _seen(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """User, place and text of everything that was received with a user's token."""
    for exchange in facts.history.exchanges:
        place = f"{exchange.what} {exchange.subject} at {exchange.gateway}"
        yield exchange.user, place, f"{exchange.correlation_id} {json.dumps(exchange.body)}"
    for connection in facts.history.connections:
        received = [connection.correlation_id, connection.body, *(event.data for event in connection.events)]
        yield connection.user, f"view {connection.view}", json.dumps(received)
    for view in facts.all_views:
        for text in view.texts:
            yield view.user, f"view {view.number}", text
