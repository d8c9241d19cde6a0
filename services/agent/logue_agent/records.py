"""From the records of the four co-partitioned topics to what the owner of their partition makes of them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from aiokafka.structs import ConsumerRecord

from logue_agent.actions import Action
from logue_agent.partition import OwnedPartition
from logue_common import topics
from logue_common.errors import problem
from logue_common.events import (
    AttemptStarted,
    ChatCancelRequested,
    ChatReplied,
    ChatRequested,
    ReplyTo,
    decode,
    legible_ids,
)


def accept(partition: OwnedPartition, record: ConsumerRecord) -> list[Action]:
    """Hand one record to its partition. Raises UnreadableRecordError."""
    now = time.monotonic()
    match record.topic:
        case topics.CHAT_REQUESTED:
            request = decode(ChatRequested, record.value)
            cause = next((value for name, value in record.headers if name == "traceparent"), None)
            return partition.requested(record.offset, request, traceparent=cause)
        case topics.CHAT_CANCELS:
            return partition.cancel_requested(record.offset, decode(ChatCancelRequested, record.value), now)
        case topics.CHAT_PROGRESSED:
            return partition.attempt_started(record.offset, decode(AttemptStarted, record.value), now)
        case _:
            return partition.replied(record.offset, decode(ChatReplied, record.value), now)


def pass_over(partition: OwnedPartition, record: ConsumerRecord) -> list[Action]:
    """Go on after a record that cannot be read; a request of which at least the ids can be read gets an outcome."""
    request = _legible_request(record)
    if request is None:
        partition.unreadable(record.topic, record.offset)
        return []
    cause = problem("internal_error", "The message could not be read by the system. Send it again.")
    return partition.requested(record.offset, request, refusal=cause)


def _legible_request(record: ConsumerRecord) -> ChatRequested | None:
    """Of an unreadable request as much as it takes to fail its turn; None when its ids cannot be read."""
    ids = legible_ids(record.value) if record.topic == topics.CHAT_REQUESTED else None
    if ids is None:
        return None
    return ChatRequested(
        turn_id=ids["turn_id"],
        conversation_id=ids["conversation_id"],
        user_id=ids["user_id"],
        user_message_id=ids["turn_id"],
        reply_message_id=ids["turn_id"],
        content="",
        reply_to=ReplyTo(partition=0, offset=0, request_id=""),
        requested_at=datetime.fromtimestamp(record.timestamp / 1000, UTC),
    )
