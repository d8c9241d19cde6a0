"""Events as gateway and agent write them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka.structs import TopicPartition

from logue_common.errors import problem
from logue_common.events import AttemptStarted, ChatReplied, ChatRequested, Event, ReplyMessage, ReplyTo, Usage
from logue_common.ids import derived_id, new_id
from logue_common.topics import CHAT_PROGRESSED, CHAT_REPLIED, CHAT_REQUESTED
from logue_conversation.batches import Batch
from logue_conversation.projection import Logged, TurnEvent

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
TOPIC_OF: dict[type[Event], str] = {
    ChatRequested: CHAT_REQUESTED,
    AttemptStarted: CHAT_PROGRESSED,
    ChatReplied: CHAT_REPLIED,
}


@dataclass
class Turn:
    """One turn and its events."""

    user_id: str = "user-1"
    conversation_id: str = field(default_factory=new_id)
    turn_id: str = field(default_factory=new_id)
    content: str = "What is a log?"
    reply: str = "An append-only sequence of records."
    at: datetime = NOON

    @property
    def user_message_id(self) -> str:
        return derived_id("user-message", self.turn_id)

    @property
    def reply_message_id(self) -> str:
        return derived_id("reply-message", self.turn_id)

    def requested(self, **values: Any) -> ChatRequested:
        fields: dict[str, Any] = {
            "user_id": self.user_id,
            "conversation_id": self.conversation_id,
            "turn_id": self.turn_id,
            "user_message_id": self.user_message_id,
            "reply_message_id": self.reply_message_id,
            "content": self.content,
            "reply_to": ReplyTo(partition=3, offset=7, request_id="r-1"),
            "requested_at": self.at,
        }
        return ChatRequested(**{**fields, **values})

    def started(self, attempt: int = 1) -> AttemptStarted:
        return AttemptStarted(
            user_id=self.user_id,
            conversation_id=self.conversation_id,
            turn_id=self.turn_id,
            attempt=attempt,
            started_at=self.at + timedelta(seconds=min(attempt, 60)),
        )

    def replied(self, status: str = "completed", **values: Any) -> ChatReplied:
        content = values.pop("content", self.reply)
        fields: dict[str, Any] = {
            "user_id": self.user_id,
            "conversation_id": self.conversation_id,
            "turn_id": self.turn_id,
            "status": status,
            "attempt": 1,
            "n": 5,
            "user_message_id": self.user_message_id,
            "model": "demo",
            "finished_at": self.at + timedelta(seconds=9),
        }
        if status != "failed":
            fields["message"] = ReplyMessage(
                id=self.reply_message_id,
                content=content,
                parent_id=self.user_message_id,
                created_at=self.at + timedelta(seconds=9),
            )
            fields["usage"] = Usage(prompt_tokens=3, completion_tokens=4, total_tokens=7)
        else:
            fields["error"] = problem("model_error", "The model failed. Try again.")
        return ChatReplied(**{**fields, **values})

    def next(self, content: str = "And then?", seconds: int = 60) -> Turn:
        """A later turn of the same conversation."""
        return Turn(self.user_id, self.conversation_id, content=content, at=self.at + timedelta(seconds=seconds))


@dataclass
class FakeLog:
    """Gives events places in a log of one partition, as a broker does."""

    records: list[Logged] = field(default_factory=list)

    def add(self, *events: TurnEvent) -> list[Logged]:
        added = []
        for event in events:
            topic = TOPIC_OF[type(event)]
            offset = sum(record.topic == topic for record in self.records)
            self.records.append(Logged(topic, 0, offset, event))
            added.append(self.records[-1])
        return added

    def batch(self, *events: TurnEvent) -> Batch:
        """These events, appended to the log, as one batch."""
        return batch_of(self.add(*events))


def batch_of(records: list[Logged]) -> Batch:
    return Batch(records, {TopicPartition(r.topic, r.partition): r.offset + 1 for r in records})
