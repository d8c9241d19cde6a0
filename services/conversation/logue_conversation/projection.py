"""What the events of a batch make of the rows that are there. Pure: rows in, rows and changes out.

Rules: the first outcome of a turn decides; a turn gets its place in the conversation when its request is stored;
whatever is delivered again changes nothing; the topics may arrive in any order relative to each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from logue_common.events import AttemptStarted, ChatReplied, ChatRequested
from logue_common.ids import is_id
from logue_conversation.titles import title_of

TERMINAL = frozenset({"completed", "failed", "cancelled"})
#: (user_id, id)
Key = tuple[str, str]
TurnEvent = ChatRequested | AttemptStarted | ChatReplied
TurnChange = Literal["conversation.created", "conversation.updated", "turn.started", "turn.finished"]


class Logged(NamedTuple):
    """An event and where the log has it."""

    topic: str
    partition: int
    offset: int
    event: TurnEvent


@dataclass(slots=True)
class ConversationRow:
    """A row of `conversations`, as far as events change it."""

    user_id: str
    id: str
    title: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    last_sequence: int = 0


@dataclass(slots=True)
class TurnRow:
    """A row of `turns`."""

    user_id: str
    id: str
    conversation_id: str
    sequence: int | None = None
    status: str = "queued"
    attempt: int = 0
    n: int | None = None
    parent_id: str | None = None
    user_message_id: str | None = None
    reply_message_id: str | None = None
    requested_at: datetime | None = None
    started_at: datetime | None = None
    first_token_at: datetime | None = None
    finished_at: datetime | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    reply_to: dict[str, Any] | None = None
    fingerprint: str | None = None
    metadata: dict[str, Any] | None = None
    request_partition: int | None = None
    request_offset: int | None = None
    latest_request_offset: int | None = None

    @property
    def is_over(self) -> bool:
        """True when the outcome is known."""
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A row of `messages`."""

    user_id: str
    id: str
    conversation_id: str
    turn_id: str
    parent_id: str | None
    role: str
    content: str
    sequence: int | None
    position: int
    created_at: datetime


class Change(NamedTuple):
    """What other tabs and devices of the user are told."""

    change: TurnChange
    user_id: str
    conversation_id: str
    turn_id: str | None


@dataclass(slots=True)
class Projection:
    """Rows of a batch while its events are applied one by one.

    `conversations` holds every conversation that events may touch; events of any other are dropped, because it was
    deleted. After `apply`, the other fields say what must be written.
    """

    conversations: dict[Key, ConversationRow]
    turns: dict[Key, TurnRow]
    changed_conversations: set[Key] = field(default_factory=set)
    changed_turns: set[Key] = field(default_factory=set)
    messages: dict[Key, MessageRow] = field(default_factory=dict)
    #: (user, user message) → parent that the outcome tells, for messages that an earlier batch may have stored.
    parents: dict[Key, str] = field(default_factory=dict)
    #: (user, reply) → sequence, for replies that were stored before their request.
    sequences: dict[Key, int] = field(default_factory=dict)
    #: (user, conversation or turn) → its latest change, to be told once this is stored. What was told of a record is
    #: told again when the record is delivered again: nobody knows whether it was.
    changes: dict[Key, Change] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)

    def apply_all(self, records: Iterable[Logged]) -> None:
        """Apply in this order."""
        for record in records:
            self.apply(record)

    def apply(self, record: Logged) -> None:
        """Apply one event."""
        event = record.event
        conversation = self.conversations.get((event.user_id, event.conversation_id))
        if conversation is None:
            self.ignored["deleted"] += 1
            return
        key = (event.user_id, event.turn_id)
        turn = self.turns.get(key)
        if turn is None:
            turn = self.turns[key] = TurnRow(event.user_id, event.turn_id, event.conversation_id)
        if turn.conversation_id != event.conversation_id:
            # One idempotency key, two conversations: the turn is where it was first.
            self.ignored["other_conversation"] += 1
            return
        match event:
            case ChatRequested():
                self._requested(record, event, turn, conversation)
            case AttemptStarted():
                self._attempted(event, turn)
            case ChatReplied():
                self._replied(event, turn, conversation)

    def _requested(self, record: Logged, event: ChatRequested, turn: TurnRow, conversation: ConversationRow) -> None:
        if turn.sequence is not None:
            self._requested_again(record, event, turn, conversation)
            return
        requested_at = _aware(event.requested_at)
        explicit_parent = event.parent_id if event.parent_id and is_id(event.parent_id) else None
        conversation.last_sequence += 1
        turn.sequence = conversation.last_sequence
        turn.parent_id = turn.parent_id or explicit_parent
        turn.user_message_id = event.user_message_id
        turn.requested_at = requested_at
        turn.model = turn.model or event.model
        turn.reply_to = event.reply_to.model_dump()
        turn.fingerprint = event.fingerprint
        turn.metadata = event.metadata or None
        turn.request_partition = record.partition
        turn.request_offset = turn.latest_request_offset = record.offset
        self._changed(turn)
        self._opened(event, conversation, requested_at)
        message = MessageRow(
            user_id=event.user_id,
            id=event.user_message_id,
            conversation_id=event.conversation_id,
            turn_id=event.turn_id,
            parent_id=turn.parent_id,
            role="user",
            content=event.content,
            sequence=turn.sequence,
            position=0,
            created_at=requested_at,
        )
        self.messages.setdefault((message.user_id, message.id), message)
        self._tell("turn.started", turn)
        if turn.is_over:
            if turn.reply_message_id is not None:
                self.sequences[(turn.user_id, turn.reply_message_id)] = turn.sequence
            self._finished(turn, conversation)

    def _opened(self, event: ChatRequested, conversation: ConversationRow, requested_at: datetime) -> None:
        """The conversation appears with its first turn, unless it was created before; its title may come from it."""
        is_new = conversation.created_at is None
        needs_title = conversation.title is None and conversation.last_sequence == 1
        if is_new:
            conversation.created_at = requested_at
        if needs_title:
            conversation.title = title_of(event.content)
        if is_new or needs_title:
            self._tell_conversation("conversation.created" if is_new else "conversation.updated", conversation)
        self._touched(conversation, requested_at)

    def _requested_again(
        self, record: Logged, event: ChatRequested, turn: TurnRow, conversation: ConversationRow
    ) -> None:
        """A retry of the client, a redelivery, or the same turn again after the log lost the first copy."""
        self.ignored["redelivered"] += 1
        if record.partition != turn.request_partition:
            return
        if record.offset == turn.request_offset:
            if turn.sequence == 1 and conversation.created_at == turn.requested_at:
                self._tell_conversation("conversation.created", conversation)
            elif turn.sequence == 1 and conversation.title == title_of(event.content):
                self._tell_conversation("conversation.updated", conversation)
            self._tell("turn.finished" if turn.is_over else "turn.started", turn)
        if record.offset < (turn.request_offset or 0) and not turn.is_over:
            # A log only grows: this one lost its tail, and what the gateway waits for is what this copy says.
            turn.request_offset = turn.latest_request_offset = record.offset
            turn.reply_to = event.reply_to.model_dump()
            self._changed(turn)
        elif record.offset > (turn.latest_request_offset or 0):
            turn.latest_request_offset = record.offset
            self._changed(turn)

    def _attempted(self, event: AttemptStarted, turn: TurnRow) -> None:
        if turn.is_over or event.attempt <= turn.attempt:
            self.ignored["redelivered"] += 1
            return
        turn.status = "in_progress"
        turn.attempt = event.attempt
        turn.started_at = _aware(event.started_at)
        self._changed(turn)

    def _replied(self, event: ChatReplied, turn: TurnRow, conversation: ConversationRow) -> None:
        finished_at = _aware(event.finished_at)
        if turn.is_over:
            same = (turn.status, turn.attempt, turn.n) == (event.status, event.attempt, event.n)
            is_again = same and turn.finished_at == finished_at
            self.ignored["redelivered" if is_again else "late_outcome"] += 1
            if is_again and turn.sequence is not None:
                self._tell("turn.finished", turn)
            return
        # All of these come from the outcome alone, so that no order of delivery makes a difference.
        turn.status = event.status
        turn.attempt = event.attempt
        turn.n = event.n
        turn.started_at = None if event.started_at is None else _aware(event.started_at)
        turn.first_token_at = None if event.first_token_at is None else _aware(event.first_token_at)
        turn.finished_at = finished_at
        turn.model = event.model or turn.model
        turn.usage = None if event.usage is None else event.usage.model_dump()
        turn.error = None if event.error is None else event.error.model_dump(mode="json", exclude_none=True)
        turn.parent_id = event.parent_id or turn.parent_id
        turn.user_message_id = turn.user_message_id or event.user_message_id
        self._keep_reply(event, turn)
        self._changed(turn)
        if turn.sequence is not None:
            if turn.parent_id is not None and turn.user_message_id is not None:
                self.parents[(turn.user_id, turn.user_message_id)] = turn.parent_id
            self._finished(turn, conversation)

    def _keep_reply(self, event: ChatReplied, turn: TurnRow) -> None:
        reply = event.message
        if reply is None or event.status == "failed" or (event.status == "cancelled" and not reply.content):
            return
        turn.reply_message_id = reply.id
        message = MessageRow(
            user_id=turn.user_id,
            id=reply.id,
            conversation_id=turn.conversation_id,
            turn_id=turn.id,
            parent_id=reply.parent_id,
            role=reply.role,
            content=reply.content,
            sequence=turn.sequence,
            position=1,
            created_at=_aware(reply.created_at),
        )
        self.messages.setdefault((message.user_id, message.id), message)

    def _finished(self, turn: TurnRow, conversation: ConversationRow) -> None:
        if turn.finished_at is not None:
            self._touched(conversation, turn.finished_at)
        self._tell("turn.finished", turn)

    def _touched(self, conversation: ConversationRow, at: datetime) -> None:
        conversation.updated_at = at if conversation.updated_at is None else max(conversation.updated_at, at)
        self.changed_conversations.add((conversation.user_id, conversation.id))

    def _changed(self, turn: TurnRow) -> None:
        self.changed_turns.add((turn.user_id, turn.id))

    def _tell(self, change: TurnChange, turn: TurnRow) -> None:
        self.changes[(turn.user_id, turn.id)] = Change(change, turn.user_id, turn.conversation_id, turn.id)

    def _tell_conversation(self, change: TurnChange, conversation: ConversationRow) -> None:
        self.changes[(conversation.user_id, conversation.id)] = Change(
            change, conversation.user_id, conversation.id, None
        )


def _aware(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at
