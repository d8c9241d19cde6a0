"""JSON bodies, as API.md ("Conversations") has them. The gateway passes them through unread."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from logue_common.errors import ProblemError
from logue_conversation.handlers import Page
from logue_conversation.store.conversations import Conversation
from logue_conversation.store.messages import Message

M = TypeVar("M", bound=BaseModel)

Title = Annotated[str, Field(min_length=1, max_length=200)]


class NewConversation(BaseModel):
    """Body of POST /conversations."""

    model_config = ConfigDict(strict=True)

    title: Title | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class ConversationPatch(BaseModel):
    """Body of PATCH /conversations/{id}: what is absent stays; a null title gives it back to nobody."""

    model_config = ConfigDict(strict=True)

    title: Title | None = None
    archived: bool = False
    metadata: dict[str, Any] = Field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """The columns that were named."""
        return self.model_dump(include=self.model_fields_set)


async def read_body(request: Request, model: type[M]) -> M:
    """The request's body. An absent one counts as {}. Raises ProblemError `validation_error` with field paths."""
    try:
        return model.model_validate_json(await request.body() or b"{}")
    except ValidationError as error:
        raise invalid(error.errors(include_input=False, include_url=False)) from None


def invalid(found: Any) -> ProblemError:
    """A `validation_error` from pydantic's list of errors, in the shape that the gateway gives its own."""
    errors = [{"path": ".".join(map(str, item["loc"])), "detail": item["msg"], "type": item["type"]} for item in found]
    return ProblemError("validation_error", "The request is not valid; `errors` says where.", errors=errors)


def conversation_item(item: Conversation) -> dict[str, Any]:
    """A conversation in lists and on its own."""
    return {
        "id": item.id,
        "title": item.title,
        "archived": item.archived,
        "metadata": item.metadata,
        "created_at": rfc3339(item.created_at),
        "updated_at": rfc3339(item.updated_at),
    }


def message_item(item: Message) -> dict[str, Any]:
    """A message in lists. Feedback and tool calls are not stored yet."""
    return {
        "id": item.id,
        "turn_id": item.turn_id,
        "parent_id": item.parent_id,
        "role": item.role,
        "content": item.content,
        "status": item.status,
        "created_at": rfc3339(item.created_at),
        "feedback": None,
        "usage": item.usage if item.role == "assistant" else None,
        "tool_calls": [],
    }


def page_body(page: Page, item: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """A list."""
    return {"items": [item(found) for found in page.items], "next_cursor": page.next_cursor}


def rfc3339(at: datetime) -> str:
    """In UTC, with a Z, as pydantic writes times too."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def json_response(body: Any, status: int = 200) -> Response:
    """`body` as JSON."""
    return Response(orjson.dumps(body, default=str), status, media_type="application/json")
