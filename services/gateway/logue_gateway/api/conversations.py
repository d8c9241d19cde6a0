"""/api/{user_id}/conversations: checked here, answered by the conversation service, passed through as bytes."""

from __future__ import annotations

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from logue_common.errors import ProblemError
from logue_common.ids import is_id
from logue_gateway.api.answers import JSON
from logue_gateway.api.documents import (
    AFTER_TURN,
    ANYWHERE,
    CURSOR,
    LEAF,
    LIMIT,
    ORDER,
    WITH_BODY,
    Conversation,
    ConversationId,
    ConversationPage,
    MessagePage,
    UserId,
    answer,
    json_body,
    parameters,
)
from logue_gateway.api.requests import (
    MAX_CURSOR_LENGTH,
    MAX_LIMIT,
    Body,
    invalid,
    path_id,
    principal,
    read_body,
    resources,
)
from logue_gateway.api.route import PlainRoute
from logue_gateway.api.schemas import ConversationBody, ConversationPatch, bearer
from logue_gateway.store import Answer

router = APIRouter(route_class=PlainRoute, responses=ANYWHERE, dependencies=[bearer], tags=["conversations"])


@router.get(
    "/api/{user_id}/conversations",
    openapi_extra=parameters(LIMIT, CURSOR),
    responses=answer(200, "Newest first", ConversationPage),
)
async def list_conversations(request: Request, user_id: UserId) -> Response:
    """The user's conversations. `limit` 1–100, `cursor` from the page before."""
    query = _query(request, "limit", "cursor")
    path = "/conversations"
    return _pass(await resources(request).store.call("GET", _user(request, user_id), path, route="list", query=query))


@router.post(
    "/api/{user_id}/conversations",
    status_code=201,
    openapi_extra=json_body(ConversationBody),
    responses=answer(201, "It", Conversation) | WITH_BODY,
)
async def create_conversation(request: Request, user_id: UserId) -> Response:
    """An empty conversation."""
    res = resources(request)
    body = _canonical(await read_body(request, ConversationBody))
    answer = await res.store.call("POST", _user(request, user_id), "/conversations", route="create", body=body)
    res.owned.add(_user(request, user_id), orjson.loads(answer.body)["id"])
    return _pass(answer)


@router.get("/api/{user_id}/conversations/{conversation_id}", responses=answer(200, "It", Conversation))
async def get_conversation(request: Request, user_id: UserId, conversation_id: ConversationId) -> Response:
    """One conversation."""
    return _pass(await _of_one(request, user_id, conversation_id, "GET", route="conversation"))


@router.patch(
    "/api/{user_id}/conversations/{conversation_id}",
    openapi_extra=json_body(ConversationPatch),
    responses=answer(200, "It, as it is now", Conversation) | WITH_BODY,
)
async def patch_conversation(request: Request, user_id: UserId, conversation_id: ConversationId) -> Response:
    """Change title, archived or metadata."""
    _path(conversation_id)  # a path that names nothing is 404, whatever the body is
    body = _canonical(await read_body(request, ConversationPatch))
    return _pass(await _of_one(request, user_id, conversation_id, "PATCH", route="patch", body=body))


@router.delete("/api/{user_id}/conversations/{conversation_id}", status_code=204, responses=answer(204, "It is gone"))
async def delete_conversation(request: Request, user_id: UserId, conversation_id: ConversationId) -> Response:
    """Delete it with all its messages; a turn that runs in it is stopped."""
    answer = await _of_one(request, user_id, conversation_id, "DELETE", route="delete")
    resources(request).owned.discard(_user(request, user_id), conversation_id)
    return _pass(answer)


@router.get(
    "/api/{user_id}/conversations/{conversation_id}/messages",
    openapi_extra=parameters(LIMIT, CURSOR, ORDER, AFTER_TURN, LEAF),
    responses=answer(200, "In order", MessagePage),
)
async def list_messages(request: Request, user_id: UserId, conversation_id: ConversationId) -> Response:
    """Its messages. `after_turn` waits (2 s at most) until that turn is stored; `leaf` selects one branch."""
    path = f"{_path(conversation_id)}/messages"
    query = _query(request, "limit", "cursor", "order", "after_turn", "leaf")
    return _pass(
        await resources(request).store.call("GET", _user(request, user_id), path, route="messages", query=query)
    )


def _user(request: Request, user_id: str) -> str:
    return principal(request, user_id).user_id


async def _of_one(
    request: Request, user_id: str, conversation_id: str, method: str, *, route: str, body: bytes | None = None
) -> Answer:
    res, user = resources(request), _user(request, user_id)
    try:
        return await res.store.call(method, user, _path(conversation_id), route=route, body=body)
    except ProblemError as error:
        if error.code == "conversation_not_found":  # deleted through another gateway; that may not be heard here yet
            res.owned.forget(user, conversation_id)
        raise


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
        raise invalid("limit", f"must be a whole number from 1 to {MAX_LIMIT}")
    if query.get("order", "asc") not in ("asc", "desc"):
        raise invalid("order", "must be asc or desc")
    if not 1 <= len(query.get("cursor", "-")) <= MAX_CURSOR_LENGTH:
        raise invalid("cursor", "must be a next_cursor of the page before")
    for name in ("after_turn", "leaf"):
        if name in query and not is_id(query[name]):
            raise invalid(name, "must be an id")
    return query


def _is_limit(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 3 and 1 <= int(text) <= MAX_LIMIT


def _pass(answer: Answer) -> Response:
    return Response(answer.body or None, answer.status, media_type=JSON if answer.body else None)
