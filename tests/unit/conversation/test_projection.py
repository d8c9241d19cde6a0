"""What events make of rows; the any-order property is tested on PostgreSQL (tests/integration/conversation)."""

from __future__ import annotations

from datetime import UTC, datetime

from logue_common.events import AttemptStarted, ChatRequested, ReplyTo
from logue_common.ids import new_id
from logue_common.topics import CHAT_PROGRESSED, CHAT_REQUESTED
from logue_conversation.projection import ConversationRow, Logged, Projection

CONVERSATION, TURN, MESSAGE = new_id(), new_id(), new_id()
AT = datetime(2026, 1, 1, tzinfo=UTC)


def empty() -> Projection:
    return Projection({("u", CONVERSATION): ConversationRow("u", CONVERSATION)}, {})


def requested(offset: int, reply_partition: int = 0, partition: int = 0, user_id: str = "u") -> Logged:
    event = ChatRequested(
        user_id=user_id,
        conversation_id=CONVERSATION,
        turn_id=TURN,
        user_message_id=MESSAGE,
        reply_message_id=new_id(),
        content="Hello",
        reply_to=ReplyTo(partition=reply_partition, offset=0, request_id="r"),
        requested_at=AT,
    )
    return Logged(CHAT_REQUESTED, partition, offset, event)


def started(attempt: int) -> Logged:
    event = AttemptStarted(
        user_id="u", conversation_id=CONVERSATION, turn_id=TURN, attempt=attempt, started_at=AT.replace(second=attempt)
    )
    return Logged(CHAT_PROGRESSED, 0, attempt, event)


def test_a_retried_request_keeps_the_place_where_the_first_one_waits() -> None:
    projection = empty()
    projection.apply_all([requested(5, reply_partition=1), requested(9, reply_partition=2)])
    turn = projection.turns[("u", TURN)]
    assert turn.reply_to is not None
    assert (turn.reply_to["partition"], turn.request_offset, turn.latest_request_offset) == (1, 5, 9)
    assert turn.sequence == 1
    assert projection.ignored == {"redelivered": 1}


def test_a_request_below_the_first_one_is_a_log_that_lost_its_tail() -> None:
    projection = empty()
    projection.apply_all([requested(5, reply_partition=1), requested(3, reply_partition=2)])
    turn = projection.turns[("u", TURN)]
    assert turn.reply_to is not None
    assert (turn.reply_to["partition"], turn.request_offset, turn.latest_request_offset) == (2, 3, 3)


def test_an_older_attempt_does_not_replace_a_newer_one() -> None:
    projection = empty()
    projection.apply_all([requested(0), started(2), started(1)])
    turn = projection.turns[("u", TURN)]
    assert (turn.status, turn.attempt, turn.started_at) == ("in_progress", 2, AT.replace(second=2))


def test_events_of_a_conversation_that_is_not_there_are_dropped() -> None:
    projection = empty()
    projection.apply(requested(0, user_id="somebody-else"))
    assert projection.ignored == {"deleted": 1}
    assert not projection.changed_turns
    assert not projection.messages
