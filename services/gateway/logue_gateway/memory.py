"""What this instance remembers: turns that it published lately, and which conversations belong to whom. Bounded."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from logue_common.errors import ProblemError
from logue_common.events import ReplyTo

#: A turn is about 1 KiB here; a gateway publishes this many in some minutes of full load.
MAX_TURNS = 20_000
MAX_CONVERSATIONS = 100_000
MAX_DELETED = 10_000


@dataclass(slots=True)
class KnownTurn:
    """A turn that this instance published, or is about to."""

    conversation_id: str
    user_message_id: str
    fingerprint: str
    reply_to: ReplyTo
    #: Done when the broker answered: with None when it has the turn, else with the error to give.
    accepted: asyncio.Future[ProblemError | None] = field(repr=False)
    over: bool = False
    #: It streams elsewhere, so its end is not seen here: only the store can tell whether it is over.
    moved: bool = False


class TurnMemory:
    """Turns by (user, turn), the latest MAX_TURNS."""

    def __init__(self, limit: int = MAX_TURNS) -> None:
        self._limit = limit
        self._turns: OrderedDict[tuple[str, str], KnownTurn] = OrderedDict()

    def get(self, user_id: str, turn_id: str) -> KnownTurn | None:
        """The turn, when this instance knows it and the broker has it or may get it."""
        return self._turns.get((user_id, turn_id))

    def put(self, user_id: str, turn_id: str, turn: KnownTurn) -> None:
        """Remember `turn`; the oldest one gives way."""
        self._turns[user_id, turn_id] = turn
        if len(self._turns) > self._limit:
            self._turns.popitem(last=False)

    def forget(self, user_id: str, turn_id: str) -> None:
        """The turn was not accepted."""
        self._turns.pop((user_id, turn_id), None)

    def mark_over(self, user_id: str, turn_id: str) -> None:
        """The turn's end frame was seen."""
        if (turn := self._turns.get((user_id, turn_id))) is not None:
            turn.over = True

    def move(self, user_id: str, turn_id: str, request_id: str | None, target: dict[str, int]) -> None:
        """The lane says where the request's turn streams instead, or ({}) that it was decided before.

        Whoever joins it here goes there at once.
        """
        turn = self._turns.get((user_id, turn_id))
        if turn is None or turn.reply_to.request_id != request_id:
            return
        if target:
            turn.reply_to = ReplyTo(
                partition=int(target["partition"]), offset=int(target["offset"]), request_id=turn.reply_to.request_id
            )
        turn.moved, turn.over = bool(target), not target


class OwnedConversations:
    """Pairs (user, conversation) that are known to belong together. Ownership never changes; deletion ends it."""

    def __init__(self, limit: int = MAX_CONVERSATIONS) -> None:
        self._limit = limit
        self._pairs: OrderedDict[tuple[str, str], None] = OrderedDict()
        #: The latest ones: that they were created may be heard later.
        self._deleted: OrderedDict[tuple[str, str], None] = OrderedDict()

    def __contains__(self, pair: tuple[str, str]) -> bool:
        if pair not in self._pairs:
            return False
        self._pairs.move_to_end(pair)
        return True

    def add(self, user_id: str, conversation_id: str) -> None:
        """Remember a pair, unless it was deleted; the one not used for longest gives way."""
        if (user_id, conversation_id) not in self._deleted:
            _put(self._pairs, (user_id, conversation_id), self._limit)

    def forget(self, user_id: str, conversation_id: str) -> None:
        """The store does not know it now."""
        self._pairs.pop((user_id, conversation_id), None)

    def discard(self, user_id: str, conversation_id: str) -> None:
        """The conversation was deleted."""
        self._pairs.pop((user_id, conversation_id), None)
        _put(self._deleted, (user_id, conversation_id), MAX_DELETED)


def _put(pairs: OrderedDict[tuple[str, str], None], pair: tuple[str, str], limit: int) -> None:
    pairs[pair] = None
    pairs.move_to_end(pair)
    if len(pairs) > limit:
        pairs.popitem(last=False)
