"""/api/{user_id}/turns: how a turn stands, its events again, and the wish to stop it."""

from __future__ import annotations

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from logue_common.errors import ProblemError
from logue_common.events import ChatCancelRequested
from logue_gateway import metrics
from logue_gateway.api import answers
from logue_gateway.api.documents import (
    ANYWHERE,
    LAST_EVENT_ID,
    Accepted,
    Turn,
    TurnId,
    UserId,
    answer,
    parameters,
    problems,
)
from logue_gateway.api.identity import TurnIds
from logue_gateway.api.requests import path_id, principal, resources
from logue_gateway.api.route import PlainRoute
from logue_gateway.api.schemas import bearer
from logue_gateway.auth import Principal
from logue_gateway.bootstrap import Resources
from logue_gateway.errors import correlate
from logue_gateway.streams.endings import ending_of
from logue_gateway.streams.event_ids import EventId, StreamIds
from logue_gateway.streams.replay import Start
from logue_gateway.streams.sse import EventStreamResponse, SseStream

router = APIRouter(route_class=PlainRoute, responses=ANYWHERE, dependencies=[bearer], tags=["turns"])


@router.get("/api/{user_id}/turns/{turn_id}", responses=answer(200, "The turn", Turn))
async def get_turn(request: Request, user_id: UserId, turn_id: TurnId) -> Response:
    """How the turn stands; its reply when there is one."""
    turn = path_id(turn_id, "turn_not_found")
    answer = await resources(request).store.turn_answer(principal(request, user_id).user_id, turn)
    correlate(request, turn)
    public = orjson.loads(answer.body)
    public.pop("internal", None)
    return Response(orjson.dumps(public), media_type=answers.JSON)


@router.get(
    "/api/{user_id}/turns/{turn_id}/events",
    response_class=StreamingResponse,
    openapi_extra=parameters(LAST_EVENT_ID),
    responses=answer(200, "The turn's events", events=True) | answer(204, "Everything was seen"),
)
async def get_events(request: Request, user_id: UserId, turn_id: TurnId) -> Response:
    """The turn's events from the start, or after `Last-Event-ID`."""
    res, who = resources(request), principal(request, user_id)
    turn = path_id(turn_id, "turn_not_found")
    ids = res.event_ids.of(who.user_id, turn)
    last = request.headers.get("last-event-id", "").strip()
    if not last:
        res.streams.admit()
        stream = await _from_the_start(res, who, turn, ids)
    else:
        seen = ids.parse(last)
        if seen.is_end:
            correlate(request, turn)
            metrics.RESUMES.labels("log", "complete").inc()
            return Response(status_code=204)
        res.streams.admit()
        # The id proves that the turn is this user's; the log has what follows: no lookup.
        stream = _stream(res, who, turn, ids, seen, source="log")
        res.streams.follow(stream, Start(seen.partition, seen.offset + 1, exact=True))
    correlate(request, turn)
    return EventStreamResponse(stream, leave=res.streams.leave)


async def _from_the_start(res: Resources, who: Principal, turn_id: str, ids: StreamIds) -> SseStream:
    known = res.memory.get(who.user_id, turn_id)
    live = known.reply_to if known is not None and not known.over and known.accepted.done() else None
    reply_to, ending = live, None
    if known is None or live is None or known.moved:
        try:
            stored = await res.store.turn(who.user_id, turn_id)
        except ProblemError:
            if live is None:
                raise
        else:
            reply_to, ending = stored.internal.reply_to, ending_of(stored) if stored.is_over else None
    seen = EventId(0, -1, 0, 0) if reply_to is None else EventId(reply_to.partition, reply_to.offset - 1, 0, 0)
    stream = _stream(res, who, turn_id, ids, seen, source="start" if ending is None else "store")
    if ending is not None:
        stream.settle(ending)
    elif reply_to is None:
        res.streams.await_store(stream)
    else:
        res.streams.follow(stream, Start(reply_to.partition, reply_to.offset))
    return stream


def _stream(res: Resources, who: Principal, turn_id: str, ids: StreamIds, seen: EventId, *, source: str) -> SseStream:
    stream = SseStream(
        who.user_id,
        turn_id,
        ids=ids,
        seen=seen,
        expires_at=who.expires_at,
        buffer_bytes=res.settings.gateway_stream_buffer_bytes,
    )
    stream.resumed_from = source
    return stream


@router.post(
    "/api/{user_id}/turns/{turn_id}/cancel",
    status_code=202,
    responses=answer(202, "Asked for; the turn's outcome tells", Accepted) | problems(409),
)
async def post_cancel(request: Request, user_id: UserId, turn_id: TurnId) -> Response:
    """Ask to stop a turn. Idempotent; the turn may still complete."""
    res, who = resources(request), principal(request, user_id)
    turn = path_id(turn_id, "turn_not_found")
    conversation_id, status = await _running(res, who.user_id, turn)
    correlate(request, turn)
    cancel = ChatCancelRequested(
        user_id=who.user_id, conversation_id=conversation_id, turn_id=turn, requested_at=res.clock()
    )
    await res.publisher.cancel(cancel)
    return answers.accepted(request, who.user_id, TurnIds(turn, conversation_id), status)


async def _running(res: Resources, user_id: str, turn_id: str) -> tuple[str, str]:
    """Conversation and status of a turn that is not known to be over. Raises ProblemError otherwise."""
    known = res.memory.get(user_id, turn_id)
    if known is not None and known.accepted.done():
        if known.over:
            raise _finished()
        return known.conversation_id, "in_progress"
    stored = await res.store.turn(user_id, turn_id)
    if stored.is_over:
        raise _finished()
    return stored.conversation_id, stored.status


def _finished() -> ProblemError:
    return ProblemError("turn_finished", "The turn is over; there is nothing to stop. Read its outcome.")
