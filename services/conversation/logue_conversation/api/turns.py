"""Routes of turns."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from logue_conversation.api.conversations import Use, UserId

router = APIRouter(prefix="/internal/users/{user_id}")


@router.get("/turns/{turn_id}")
async def get_turn(user_id: UserId, turn_id: str, use: Use) -> Response:
    """A StoredTurn."""
    return _model(await use.get_turn(user_id, turn_id))


@router.get("/conversations/{conversation_id}/turns/{turn_id}/context")
async def turn_context(
    user_id: UserId, conversation_id: str, turn_id: str, use: Use, parent_id: str | None = None
) -> Response:
    """A TurnContext."""
    return _model(await use.turn_context(user_id, conversation_id, turn_id, parent_id))


def _model(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), media_type="application/json")
