"""Routes of conversations and their messages."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from logue_conversation.api.bodies import (
    ConversationPatch,
    NewConversation,
    conversation_item,
    json_response,
    message_item,
    page_body,
    read_body,
)
from logue_conversation.bootstrap import Resources
from logue_conversation.handlers import Handlers

# A user id without control characters: PostgreSQL could not hold U+0000, and no token has such a subject.
UserId = Annotated[str, Path(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]
Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=500)]


async def handlers_of(request: Request) -> Handlers:
    """The use cases of this process. (async: FastAPI would call a plain function in a thread.)"""
    resources: Resources = request.app.state.resources
    return resources.handlers


Use = Annotated[Handlers, Depends(handlers_of)]

router = APIRouter(prefix="/internal/users/{user_id}/conversations")


@router.get("")
async def list_conversations(user_id: UserId, use: Use, limit: Limit = 20, cursor: Cursor = None) -> Response:
    """Newest first."""
    return json_response(page_body(await use.list_conversations(user_id, limit, cursor), conversation_item))


@router.post("")
async def create_conversation(user_id: UserId, use: Use, request: Request) -> Response:
    """A new, empty conversation."""
    body = await read_body(request, NewConversation)
    return json_response(conversation_item(await use.create_conversation(user_id, body.title, body.metadata)), 201)


@router.get("/{conversation_id}")
async def get_conversation(user_id: UserId, conversation_id: str, use: Use) -> Response:
    """One conversation."""
    return json_response(conversation_item(await use.get_conversation(user_id, conversation_id)))


@router.patch("/{conversation_id}")
async def change_conversation(user_id: UserId, conversation_id: str, use: Use, request: Request) -> Response:
    """Changes what the body names."""
    body = await read_body(request, ConversationPatch)
    return json_response(conversation_item(await use.change_conversation(user_id, conversation_id, body.values())))


@router.delete("/{conversation_id}")
async def delete_conversation(user_id: UserId, conversation_id: str, use: Use) -> Response:
    """Deletes it for good."""
    await use.delete_conversation(user_id, conversation_id)
    return Response(status_code=204)


@router.get("/{conversation_id}/messages")
async def list_messages(  # noqa: PLR0917 (FastAPI passes them by name)
    user_id: UserId,
    conversation_id: str,
    use: Use,
    limit: Limit = 20,
    cursor: Cursor = None,
    order: Literal["asc", "desc"] = "asc",
    after_turn: str | None = None,
    leaf: str | None = None,
) -> Response:
    """In the order of the conversation."""
    page = await use.list_messages(
        user_id,
        conversation_id,
        limit=limit,
        cursor=cursor,
        newest_first=order == "desc",
        after_turn=after_turn,
        leaf=leaf,
    )
    return json_response(page_body(page, message_item))
