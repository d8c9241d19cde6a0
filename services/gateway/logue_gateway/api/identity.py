"""Which turn is this? Ids that are new, or that a retry with the same Idempotency-Key finds again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import orjson

from logue_common.ids import derived_id, new_id
from logue_gateway.api.schemas import ChatBody


@dataclass(frozen=True, slots=True)
class TurnIds:
    """The ids that belong to one turn. Those of its messages derive from its own."""

    turn_id: str
    conversation_id: str

    @property
    def user_message_id(self) -> str:
        """The message that asks."""
        return derived_id("user-message", self.turn_id)

    @property
    def reply_message_id(self) -> str:
        """The message that answers."""
        return derived_id("reply-message", self.turn_id)


def turn_ids(user_id: str, key: str | None, conversation_id: str | None) -> TurnIds:
    """New ids, or with `key` those that every retry gets. `conversation_id` None: a new conversation."""
    if key is None:
        return TurnIds(new_id(), conversation_id or new_id())
    return TurnIds(derived_id("turn", user_id, key), conversation_id or derived_id("conversation", user_id, key))


def fingerprint(body: ChatBody) -> str:
    """SHA-256 of what is asked, in canonical form. How the answer is delivered is no part of it."""
    asked = body.model_dump(exclude={"stream"})
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()
