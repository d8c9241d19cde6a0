"""What /openapi.json says of parameters and answers; tests/hostile holds the gateway to it. No request runs this."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel

from logue_common.errors import PROBLEM_JSON, Problem
from logue_common.events import MAX_USER_ID, Id, ReplyMessage, Usage
from logue_common.frames import CANCELLED, COMPLETED, DELTA, FAILED, QUEUED, RESET, SNAPSHOT
from logue_common.internal import TurnStatus
from logue_gateway.api.requests import MAX_CURSOR_LENGTH, MAX_KEY_LENGTH, MAX_LIMIT, Body

Responses = dict[int | str, dict[str, Any]]

_UUID = {"format": "uuid"}
UserId = Annotated[str, Path(json_schema_extra={"minLength": 1, "maxLength": MAX_USER_ID})]
TurnId = Annotated[str, Path(json_schema_extra=_UUID)]
ConversationId = Annotated[str, Path(json_schema_extra=_UUID)]


class Reply(BaseModel):
    """A turn that is over, as the request that waited for it is told."""

    conversation_id: Id
    turn_id: Id
    status: Literal["completed", "cancelled"]
    model: str | None
    message: ReplyMessage | None
    usage: Usage | None


class Accepted(BaseModel):
    """A turn that goes on; Location tells how."""

    conversation_id: Id
    turn_id: Id
    status: TurnStatus


class Turn(BaseModel):
    """How a turn stands."""

    turn_id: Id
    conversation_id: Id
    status: TurnStatus
    attempt: int
    requested_at: datetime | None
    started_at: datetime | None
    first_token_at: datetime | None
    finished_at: datetime | None
    message: ReplyMessage | None
    usage: Usage | None
    error: Problem | None


class Conversation(BaseModel):
    """A thread of messages."""

    id: Id
    title: str | None
    archived: bool
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class ConversationPage(BaseModel):
    """Newest first."""

    items: list[Conversation]
    next_cursor: str | None


class Message(BaseModel):
    """One message of a conversation."""

    id: Id
    turn_id: Id
    parent_id: Id | None
    role: Literal["user", "assistant"]
    content: str
    status: TurnStatus
    created_at: datetime
    feedback: dict[str, Any] | None
    usage: Usage | None
    tool_calls: list[dict[str, Any]]


class MessagePage(BaseModel):
    """In the order of the conversation."""

    items: list[Message]
    next_cursor: str | None


def json_body(model: type[Body]) -> dict[str, Any]:
    """A body that the route reads itself."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def parameters(*named: dict[str, Any]) -> dict[str, Any]:
    """Headers and query parameters that the route reads itself."""
    return {"parameters": list(named)}


def _parameter(where: str, name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"in": where, "name": name, "description": description, "schema": schema}


IDEMPOTENCY_KEY = _parameter(
    "header",
    "Idempotency-Key",
    "A retry with the same key finds the same turn",
    type="string",
    minLength=1,
    maxLength=MAX_KEY_LENGTH,
    pattern="^[!-~]+$",
)
PREFER = _parameter("header", "Prefer", "`respond-async` or `wait=N` (RFC 7240)", type="string")
LAST_EVENT_ID = _parameter("header", "Last-Event-ID", "The id of the last event that was seen", type="string")
LIMIT = _parameter("query", "limit", "Items of a page", type="integer", minimum=1, maximum=MAX_LIMIT, default=20)
CURSOR = _parameter(
    "query", "cursor", "next_cursor of the page before", type="string", minLength=1, maxLength=MAX_CURSOR_LENGTH
)
ORDER = _parameter("query", "order", "Oldest or newest first", type="string", enum=["asc", "desc"], default="asc")
AFTER_TURN = _parameter("query", "after_turn", "Wait (2 s at most) until this turn is stored", type="string", **_UUID)
LEAF = _parameter("query", "leaf", "The branch that ends in this message", type="string", **_UUID)

_CORRELATION = {"X-Correlation-ID": {"description": "The turn's id where there is one", "schema": {"type": "string"}}}
_LOCATION = {"Location": {"description": "Where the turn tells how it goes on", "schema": {"type": "string"}}}


#: What can be done next with an answer that names a turn (OpenAPI links).
TURN_LINKS = {
    operation: {
        "operationId": operation,
        "parameters": {"user_id": "$request.path.user_id", "turn_id": "$response.body#/turn_id"},
    }
    for operation in ("get_turn", "get_events", "post_cancel")
}
#: One event of a stream, as OpenAPI 3.2 describes it.
_EVENT = {
    "type": "object",
    "required": ["event", "id", "data"],
    "properties": {
        "event": {"enum": ["turn.started", QUEUED, DELTA, RESET, SNAPSHOT, COMPLETED, FAILED, CANCELLED]},
        "id": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}


def answer(
    status: int,
    description: str,
    model: type[BaseModel] | None = None,
    *,
    events: bool = False,
    links: dict[str, Any] | None = None,
) -> Responses:
    """A successful answer: JSON, a stream of events, both, or no body at all."""
    found: dict[str, Any] = {"description": description, "headers": dict(_CORRELATION)}
    if status == HTTPStatus.ACCEPTED:
        found["headers"] |= _LOCATION
    if model is not None:
        found["model"] = model
    if events:
        found["content"] = {"text/event-stream": {"itemSchema": _EVENT}}
    if links is not None:
        found["links"] = links
    return {status: found}


_PROBLEMS = {
    400: "The request cannot be read",
    401: "No, bad or expired token",
    403: "The token belongs to another user",
    404: "No such thing, or not yours",
    408: "The request took too long to arrive",
    409: "Not now, or not any more",
    413: "The body is larger than 1 MiB",
    415: "The body is not JSON, or is encoded",
    422: "The request is not valid",
    429: "Too many requests",
    431: "Address and headers are too large",
    500: "A defect of the server",
    502: "The model failed",
    503: "Try again in a moment",
    504: "The model took too long",
}


def problems(*statuses: int) -> Responses:
    """Answers that are problem objects."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}  # Turn brings it along
    return {
        status: {"description": _PROBLEMS[status], "headers": _CORRELATION, "content": content} for status in statuses
    }


#: What every route may answer.
ANYWHERE = problems(400, 401, 403, 404, 408, 422, 429, 431, 500, 503)
#: And those that read a body.
WITH_BODY = problems(413, 415)
