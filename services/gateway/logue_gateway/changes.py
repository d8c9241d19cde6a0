"""conversation.changed, read by every gateway: whose a new conversation is, and that a deleted one is nobody's.

So a conversation goes on at any gateway without a question to the store, and while the store is away.
"""

from __future__ import annotations

from typing import Any

from aiokafka import ConsumerRecord

from logue_common.errors import UnreadableRecordError
from logue_common.events import ConversationChanged, decode
from logue_common.topics import CONVERSATION_CHANGED
from logue_gateway.memory import OwnedConversations
from logue_gateway.streams.tail import TailReader

#: Between two looks when there is nothing new.
_FETCH_WAIT_MS = 500
#: What only changes of conversations have in their value; most records are about turns, and are not decoded.
_OF_A_CONVERSATION = b"conversation."


def changes_reader(options: dict[str, Any], index: int, owned: OwnedConversations) -> TailReader:
    """Keeps `owned` true of conversations that were begun or deleted through any gateway."""

    def on_record(record: ConsumerRecord) -> None:
        if _OF_A_CONVERSATION not in (record.value or b""):
            return
        try:
            event = decode(ConversationChanged, record.value)
        except UnreadableRecordError:
            return  # a later lookup tells the truth
        if event.change == "conversation.created":
            owned.add(event.user_id, event.conversation_id)
        elif event.change == "conversation.deleted":
            owned.discard(event.user_id, event.conversation_id)

    return TailReader(
        options,
        CONVERSATION_CHANGED,
        client_id=f"gateway-{index}-changes",
        choose=lambda total: list(range(total)),
        on_record=on_record,
        fetch_wait_ms=_FETCH_WAIT_MS,
    )
