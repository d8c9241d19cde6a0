"""/api/{user_id}/conversations: checked here, answered by the conversation service, passed through as bytes."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from logue_common.ids import is_id
from logue_gateway.api.answers import JSON
from logue_gateway.api.requests import Body, invalid, path_id, principal, read_body, resources
from logue_gateway.api.schemas import PROBLEM_RESPONSES, ConversationBody, ConversationPatch, bearer, json_body
from logue_gateway.store import Answer

router = APIRouter(responses=PROBLEM_RESPONSES, dependencies=[bearer], tags=["conversations"])

UserId = Annotated[str, Path()]
ConversationId = Annotated[str, Path()]
_MAX_CURSOR_LENGTH = 1024
_MAX_LIMIT = 100


@router.get("/api/{user_id}/conversations", responses={200: {"description": "Newest first"}})
async def list_conversations(request: Request, user_id: UserId) -> Response:
    """The user's conversations. `limit` 1–100, `cursor` from the page before."""
    query = _query(request, "limit", "cursor")
    path = "/conversations"
    return _pass(await resources(request).store.call("GET", _user(request, user_id), path, route="list", query=query))


@router.post("/api/{user_id}/conversations", status_code=201, openapi_extra=json_body(ConversationBody))
async def create_conversation(request: Request, user_id: UserId) -> Response:
    """An empty conversation."""
    res = resources(request)
    body = _canonical(await read_body(request, ConversationBody))
    answer = await res.store.call("POST", _user(request, user_id), "/conversations", route="create", body=body)
    res.owned.add(_user(request, user_id), orjson.loads(answer.body)["id"])
    return _pass(answer)


@router.get("/api/{user_id}/conversations/{conversation_id}", responses={200: {"description": "It"}})
async def get_conversation(request: Request, user_id: UserId, conversation_id: ConversationId) -> Response:
    """One conversation."""
    return _pass(
        await resources(request).store.call(
            "GET", _user(request, user_id), _path(conversation_id), route="conversation"
        )
    )


@router.patch("/api/{user_id}/conversations/{conversation_id}", openapi_extra=json_body(ConversationPatch))
async def patch_conversation(request: Request, user_id: UserId, conversation_id: ConversationId) -> Response:
    """Change title, archived or metadata."""
    path = _path(conversation_id)
    body = _canonical(await read_body(request, ConversationPatch))
    return _pass(await resources(request).store.call("PATCH", _user(request, user_id), path, route="patch", body=body))


@router.delete("/api/{user_id}/conversations/{conversation_id}", status_code=204)
async def delete_conversation(request: Request, user_id: UserId, conversation_id: ConversationId) -> Response:
    """Delete it with all its messages; a turn that runs in it is stopped."""
    res, path = resources(request), _path(conversation_id)
    answer = await res.store.call("DELETE", _user(request, user_id), path, route="delete")
    res.owned.discard(_user(request, user_id), conversation_id)
    return _pass(answer)


@router.get("/api/{user_id}/conversations/{conversation_id}/messages", responses={200: {"description": "In order"}})
async def list_messages(request: Request, user_id: UserId, conversation_id: ConversationId) -> Response:
    """Its messages. `after_turn` waits (2 s at most) until that turn is stored; `leaf` selects one branch."""
    path = f"{_path(conversation_id)}/messages"
    query = _query(request, "limit", "cursor", "order", "after_turn", "leaf")
    return _pass(
        await resources(request).store.call("GET", _user(request, user_id), path, route="messages", query=query)
    )


def _user(request: Request, user_id: str) -> str:
    return principal(request, user_id).user_id


def _path(conversation_id: str) -> str:
    return f"/conversations/{path_id(conversation_id, 'conversation_not_found')}"


def _canonical(body: Body) -> bytes:
    """What was checked, and nothing but that: another parser may see other things in the client's own bytes."""
    return orjson.dumps(body.model_dump(exclude_unset=True))


def _query(request: Request, *names: str) -> dict[str, str]:
    """The parameters that this route knows, checked. Raises ProblemError 422."""
    query: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in names:
            raise invalid(name, f"is not known here; known are {', '.join(names)}")
        if name in query:
            raise invalid(name, "is given twice")
        query[name] = value
    if (limit := query.get("limit")) is not None and not _is_limit(limit):
        raise invalid("limit", f"must be a whole number from 1 to {_MAX_LIMIT}")
    if query.get("order", "asc") not in ("asc", "desc"):
        raise invalid("order", "must be asc or desc")
    if not 1 <= len(query.get("cursor", "-")) <= _MAX_CURSOR_LENGTH:
        raise invalid("cursor", "must be a next_cursor of the page before")
    for name in ("after_turn", "leaf"):
        if name in query and not is_id(query[name]):
            raise invalid(name, "must be an id")
    return query


def _is_limit(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 3 and 1 <= int(text) <= _MAX_LIMIT


def _pass(answer: Answer) -> Response:
    return Response(answer.body or None, answer.status, media_type=JSON if answer.body else None)
