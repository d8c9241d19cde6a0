"""How a turn is told to the client: its outcome as JSON, or that it was accepted."""

from __future__ import annotations

from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import Response

from logue_common.clock import Clock
from logue_common.errors import PROBLEM_JSON
from logue_common.events import ReplyMessage
from logue_common.frames import CANCELLED, COMPLETED
from logue_gateway.api.identity import TurnIds
from logue_gateway.errors import RETRY_AFTER, correlate
from logue_gateway.streams.endings import Ending

JSON = "application/json"


def accepted(request: Request, user_id: str, turn: TurnIds, status: str) -> Response:
    """202: the turn exists; its address tells how it goes on."""
    correlate(request, turn.turn_id)
    body = {"conversation_id": turn.conversation_id, "turn_id": turn.turn_id, "status": status}
    location = f"/api/{quote(user_id, safe='')}/turns/{turn.turn_id}"
    return Response(orjson.dumps(body), 202, {"Location": location}, JSON)


def outcome(request: Request, turn: TurnIds, ending: Ending, clock: Clock) -> Response:
    """The end of a turn as the answer of the request that waited for it."""
    correlate(request, turn.turn_id)
    if ending.kind == COMPLETED:
        return Response(ending.data, 200, media_type=JSON)
    if ending.kind == CANCELLED:
        return Response(_cancelled(turn, ending, clock), 200, media_type=JSON)
    status = int(orjson.loads(ending.data)["status"])
    headers = {"Retry-After": RETRY_AFTER} if status in (429, 503) else None
    return Response(ending.data, status, headers, PROBLEM_JSON)


def _cancelled(turn: TurnIds, ending: Ending, clock: Clock) -> bytes:
    """A cancelled turn in the shape of a completed one, with the text that there was until then."""
    content = orjson.loads(ending.data)["content"]
    message = ReplyMessage(
        id=turn.reply_message_id, content=content, parent_id=turn.user_message_id, created_at=clock()
    )
    return orjson.dumps(
        {
            "conversation_id": turn.conversation_id,
            "turn_id": turn.turn_id,
            "status": "cancelled",
            "model": None,
            "message": message.model_dump(mode="json") if content else None,
            "usage": None,
        }
    )
