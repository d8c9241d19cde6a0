"""Domain events: what the Kafka topics carry. Additive changes only; golden files in tests/contract pin each schema.

Values are JSON. Headers are CloudEvents 1.0 attributes (Kafka binding, binary mode), `correlation_id` (the turn) and
W3C `traceparent`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from logue_common.errors import Problem, UnreadableRecordError
from logue_common.ids import CANONICAL_ID, is_id, new_id

Headers = list[tuple[str, bytes]]
OnBusy = Literal["enqueue", "reject", "interrupt"]
OutcomeStatus = Literal["completed", "failed", "cancelled"]
_NOT_CANONICAL = "must be a UUID in canonical form"


class _CanonicalId:
    """A UUID in canonical form. Hot: a function of ours, called for each id, takes as long as all else of an event."""

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: object) -> CoreSchema:
        text = core_schema.str_schema(pattern=f"^{CANONICAL_ID}$")
        return core_schema.custom_error_schema(text, "value_error", custom_error_context={"error": _NOT_CANONICAL})

    @classmethod
    def __get_pydantic_json_schema__(cls, *_: object) -> JsonSchemaValue:
        return {"type": "string", "format": "uuid"}


Id = Annotated[str, _CanonicalId]
MAX_USER_ID = 255
UserId = Annotated[str, Field(min_length=1, max_length=MAX_USER_ID)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Event(_Frozen):
    """Base of all events: they name the conversation and the user that they belong to."""

    event_type: ClassVar[str]

    user_id: UserId
    conversation_id: Id


class ReplyTo(_Frozen):
    """Where one gateway request waits: a partition of chat.stream, and an offset not after its first frame.

    `request_id` names the request: frames that answer it alone (attach, refused) carry it.
    """

    partition: int = Field(ge=0)
    offset: int = Field(ge=0)
    request_id: str


class ChatRequested(Event):
    """A turn was accepted."""

    event_type = "logue.chat.requested"

    turn_id: Id
    user_message_id: Id
    reply_message_id: Id
    content: str
    #: None: after the last message of the latest turn that did not fail. "root": as the first message.
    parent_id: str | None = None
    new_conversation: bool = False
    #: The gateway could not look a keyed request up: the lane must, before it runs an unknown turn.
    verify: bool = False
    fingerprint: str | None = None
    on_busy: OnBusy = "enqueue"
    model: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    reply_to: ReplyTo
    requested_at: datetime


class ChatCancelRequested(Event):
    """Someone asked to stop a turn, or every turn of the conversation (`turn_id` None). An intent, not an outcome."""

    event_type = "logue.chat.cancel_requested"

    turn_id: Id | None
    reason: Literal["user", "accept_unknown", "conversation_deleted"] = "user"
    requested_at: datetime


class AttemptStarted(Event):
    """An owner began to work on a turn."""

    event_type = "logue.chat.attempt_started"

    turn_id: Id
    attempt: int = Field(ge=1)
    started_at: datetime
    #: Said once more when the owner leaves its group: it finishes this attempt until then, and the next owner waits.
    finishes_by: datetime | None = None


class Usage(_Frozen):
    """Tokens as the model server counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class ReplyMessage(_Frozen):
    """The stored reply of a turn."""

    id: Id
    role: Literal["assistant"] = "assistant"
    content: str
    parent_id: Id
    created_at: datetime


class ChatReplied(Event):
    """A terminal outcome. The first one of a turn, in partition order, decides; later ones are ignored by everyone.

    `attempt` and `n` number the end frame of the writer of this outcome: n - 1 frames of that attempt came before it.
    """

    event_type = "logue.chat.replied"

    turn_id: Id
    status: OutcomeStatus
    attempt: int = Field(ge=0)
    n: int = Field(ge=1)
    user_message_id: Id | None = None
    #: The parent that the user message got; None when it has none, or none was resolved before the turn failed.
    parent_id: Id | None = None
    model: str | None = None
    message: ReplyMessage | None = None
    usage: Usage | None = None
    error: Problem | None = None
    started_at: datetime | None = None
    first_token_at: datetime | None = None
    finished_at: datetime


class ConversationChanged(Event):
    """Something changed for a user: for other tabs and devices, and for caches of the gateways."""

    event_type = "logue.conversation.changed"

    change: Literal[
        "conversation.created", "conversation.updated", "conversation.deleted", "turn.started", "turn.finished"
    ]
    turn_id: Id | None = None
    changed_at: datetime


E = TypeVar("E", bound=Event)


def encode(event: Event) -> bytes:
    """The record value of `event`."""
    return event.model_dump_json().encode()


def decode(model: type[E], value: bytes | None) -> E:
    """The event in a record value. Raises UnreadableRecordError, whose text names the cause but not the content."""
    if value is None:
        raise UnreadableRecordError("the record has no value")
    try:
        return model.model_validate_json(value)
    except ValidationError as error:
        causes = [f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in error.errors(include_input=False)]
        # Without its cause: the text of a ValidationError quotes the input, and tracebacks reach the logs.
        raise UnreadableRecordError("; ".join(causes[:5])) from None


def event_headers(event: Event, *, source: str, at: datetime, traceparent: str | None = None) -> Headers:
    """CloudEvents attributes, correlation id and trace context of `event`. `source` is the service's name."""
    correlation_id = getattr(event, "turn_id", None) or event.conversation_id
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", new_id().encode()),
        ("ce_type", event.event_type.encode()),
        ("ce_source", f"/logue/{source}".encode()),
        ("ce_time", at.isoformat().encode()),
        ("ce_subject", event.conversation_id.encode()),
        ("correlation_id", correlation_id.encode()),
        ("content-type", b"application/json"),
    ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return headers


def legible_ids(value: bytes | None) -> dict[str, str] | None:
    """turn_id, conversation_id and user_id of a record that `decode` refused, when at least these can be read."""
    try:
        raw = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(raw, dict):
        return None
    found = {name: raw.get(name) for name in ("turn_id", "conversation_id", "user_id")}
    ids = {name: text for name, text in found.items() if isinstance(text, str) and 0 < len(text) <= MAX_USER_ID}
    legible = len(ids) == len(found) and is_id(ids["turn_id"]) and is_id(ids["conversation_id"])
    return ids if legible else None
