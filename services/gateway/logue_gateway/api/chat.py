"""POST /api/{user_id}/chat: a message goes in; its reply comes back as JSON, as events, or later (202)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import structlog
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from logue_common.errors import ProblemError
from logue_common.events import ChatRequested, ReplyTo
from logue_common.ids import new_id
from logue_common.internal import StoredTurn
from logue_common.tracing import exemplar
from logue_gateway import metrics
from logue_gateway.api import answers
from logue_gateway.api.documents import (
    ANYWHERE,
    IDEMPOTENCY_KEY,
    PREFER,
    TURN_LINKS,
    WITH_BODY,
    Accepted,
    Reply,
    UserId,
    answer,
    json_body,
    parameters,
    problems,
)
from logue_gateway.api.identity import TurnIds, fingerprint, turn_ids
from logue_gateway.api.requests import (
    idempotency_key,
    preferred_wait,
    principal,
    read_body,
    resources,
    wants_events,
)
from logue_gateway.api.route import PlainRoute
from logue_gateway.api.schemas import ChatBody, bearer
from logue_gateway.auth import Principal
from logue_gateway.bootstrap import Resources
from logue_gateway.errors import AcceptUnknownError, correlate, unavailable
from logue_gateway.memory import KnownTurn
from logue_gateway.streams.endings import ending_of
from logue_gateway.streams.event_ids import EventId
from logue_gateway.streams.replay import Start
from logue_gateway.streams.sse import EventStreamResponse, SseStream
from logue_gateway.streams.waiters import ReplyWaiter

_log = structlog.get_logger(__name__)

router = APIRouter(route_class=PlainRoute, responses=ANYWHERE, dependencies=[bearer], tags=["chat"])


@dataclass(frozen=True, slots=True)
class Ask:
    """One chat request, read and checked."""

    who: Principal
    body: ChatBody
    turn: TurnIds
    key: str | None
    fingerprint: str
    stream: bool
    #: Seconds to wait for the reply; 0: answer 202 at once.
    wait_seconds: float


@router.post(
    "/api/{user_id}/chat",
    openapi_extra=json_body(ChatBody) | parameters(IDEMPOTENCY_KEY, PREFER),
    responses=answer(200, "The reply as JSON, or its events", Reply, events=True, links=TURN_LINKS)
    | answer(202, "Accepted; Location tells how it goes on", Accepted, links=TURN_LINKS)
    | WITH_BODY
    | problems(409, 502, 504),
)
async def post_chat(request: Request, user_id: UserId) -> Response:
    """Ask something. With an Idempotency-Key a retry finds the same turn."""
    res = resources(request)
    ask = await _read(request, res, principal(request, user_id))
    res.streams.admit()
    if ask.key is not None and (earlier := res.memory.get(ask.who.user_id, ask.turn.turn_id)) is not None:
        return await _join_known(request, res, ask, earlier)
    res.overload.require_room()
    if ask.body.conversation_id is not None:
        await _require_own(res, ask.who.user_id, ask.body.conversation_id)
    must_verify = False
    if ask.key is not None:
        stored, must_verify = await _look_up(res, ask)
        if stored is not None:
            return await _join_stored(request, res, ask, stored)
        # Another request with this key may have come here during the lookup.
        if (earlier := res.memory.get(ask.who.user_id, ask.turn.turn_id)) is not None:
            return await _join_known(request, res, ask, earlier)
    return await _start(request, res, ask, must_verify=must_verify)


async def _read(request: Request, res: Resources, who: Principal) -> Ask:
    key = idempotency_key(request)
    body = await read_body(request, ChatBody)
    return Ask(
        who=who,
        body=body,
        turn=turn_ids(who.user_id, key, body.conversation_id),
        key=key,
        fingerprint=fingerprint(body),
        stream=body.stream or wants_events(request),
        wait_seconds=preferred_wait(request, res.settings.gateway_wait_seconds),
    )


async def _require_own(res: Resources, user_id: str, conversation_id: str) -> None:
    """Someone else's conversation does not exist. Immutable, so one call the first time only."""
    if (user_id, conversation_id) not in res.owned:
        await res.store.require_conversation(user_id, conversation_id)
        res.owned.add(user_id, conversation_id)


async def _look_up(res: Resources, ask: Ask) -> tuple[StoredTurn | None, bool]:
    """The turn of this key as it is stored, and whether the lane must look because the store could not."""
    try:
        return await res.store.turn(ask.who.user_id, ask.turn.turn_id), False
    except ProblemError as error:
        return None, error.code != "turn_not_found"


async def _start(request: Request, res: Resources, ask: Ask, *, must_verify: bool) -> Response:
    """Publish the turn; wait for it as the client wants."""
    user_id, turn = ask.who.user_id, ask.turn
    reply_to = res.live.reply_to(new_id())
    if reply_to is None:
        raise unavailable("Messages cannot be accepted right now. Try again in a moment.")
    event = _event(res, ask, reply_to, must_verify=must_verify)
    accepted: asyncio.Future[ProblemError | None] = asyncio.get_running_loop().create_future()
    known = KnownTurn(turn.conversation_id, turn.user_message_id, ask.fingerprint, reply_to, accepted)
    res.memory.put(user_id, turn.turn_id, known)
    waiter = _waiter(res, ask, reply_to)
    if isinstance(waiter, SseStream):
        waiter.begin(turn.conversation_id, turn.user_message_id)
    res.streams.listen(waiter)
    arrived_at, published_at = request.scope["state"]["arrived_at"], time.monotonic()
    res.overload.asked(turn.turn_id, published_at - arrived_at, exemplar())
    try:
        await res.publisher.request(event)
    except BaseException as error:
        res.streams.leave(waiter)
        res.overload.forget(turn.turn_id)
        res.memory.forget(user_id, turn.turn_id)
        accepted.set_result(error if isinstance(error, ProblemError) else unavailable("Try again in a moment."))
        if isinstance(error, AcceptUnknownError):
            correlate(request, turn.turn_id)
            if ask.key is None:
                # With a key the client's retry is this very turn; without one nobody can come back for it.
                res.publisher.cancel_unconfirmed(event)
        raise
    accepted.set_result(None)
    now = time.monotonic()
    metrics.PUBLISH_SECONDS.observe(now - published_at)
    metrics.ACCEPT_SECONDS.observe(now - arrived_at, exemplar())
    place = {"user_id": user_id, "conversation_id": turn.conversation_id}
    _log.info("turn_accepted", correlation_id=turn.turn_id, **place, seconds=round(now - arrived_at, 4))
    if ask.body.conversation_id is None:
        res.owned.add(user_id, turn.conversation_id)
    return await _deliver(request, res, ask, turn, waiter)


def _event(res: Resources, ask: Ask, reply_to: ReplyTo, *, must_verify: bool) -> ChatRequested:
    return ChatRequested(
        user_id=ask.who.user_id,
        conversation_id=ask.turn.conversation_id,
        turn_id=ask.turn.turn_id,
        user_message_id=ask.turn.user_message_id,
        reply_message_id=ask.turn.reply_message_id,
        content=ask.body.message,
        parent_id=ask.body.parent_id,
        new_conversation=ask.body.conversation_id is None,
        verify=must_verify,
        fingerprint=ask.fingerprint,
        on_busy=ask.body.on_busy,
        model=ask.body.model,
        metadata=ask.body.metadata,
        reply_to=reply_to,
        requested_at=res.clock(),
    )


async def _join_known(request: Request, res: Resources, ask: Ask, earlier: KnownTurn) -> Response:
    """The same key came to this instance before."""
    _require_same(ask, earlier.fingerprint)
    if (error := await asyncio.shield(earlier.accepted)) is not None:
        raise error
    if (earlier.over or earlier.moved) and (stored := (await _look_up(res, ask))[0]) is not None:
        return await _join_stored(request, res, ask, stored)
    waiter = _waiter(res, ask, earlier.reply_to)
    res.streams.follow(waiter, Start(earlier.reply_to.partition, earlier.reply_to.offset))
    return await _deliver(request, res, ask, ask.turn, waiter)


async def _join_stored(request: Request, res: Resources, ask: Ask, stored: StoredTurn) -> Response:
    """The same key was used before, here or elsewhere."""
    _require_same(ask, stored.internal.fingerprint)
    turn = TurnIds(stored.turn_id, stored.conversation_id)
    reply_to = stored.internal.reply_to
    waiter = _waiter(res, ask, reply_to)
    if stored.is_over:
        waiter.settle(ending_of(stored))
    elif reply_to is None:
        res.streams.await_store(waiter)
    else:
        res.streams.follow(waiter, Start(reply_to.partition, reply_to.offset))
    return await _deliver(request, res, ask, turn, waiter, status=stored.status)


def _require_same(ask: Ask, earlier_fingerprint: str | None) -> None:
    if earlier_fingerprint is not None and earlier_fingerprint != ask.fingerprint:
        raise ProblemError(
            "idempotency_mismatch", "This Idempotency-Key was used with another request. Use a new key for a new one."
        )


def _waiter(res: Resources, ask: Ask, reply_to: ReplyTo | None) -> SseStream | ReplyWaiter:
    user_id, turn_id = ask.who.user_id, ask.turn.turn_id
    request_id = None if reply_to is None else reply_to.request_id
    if not ask.stream:
        return ReplyWaiter(user_id, turn_id, request_id=request_id)
    return SseStream(
        user_id,
        turn_id,
        ids=res.event_ids.of(user_id, turn_id),
        seen=EventId(0, -1, 0, 0) if reply_to is None else EventId(reply_to.partition, reply_to.offset - 1, 0, 0),
        expires_at=ask.who.expires_at,
        buffer_bytes=res.settings.gateway_stream_buffer_bytes,
        request_id=request_id,
    )


async def _deliver(
    request: Request,
    res: Resources,
    ask: Ask,
    turn: TurnIds,
    waiter: SseStream | ReplyWaiter,
    *,
    status: str = "queued",
) -> Response:
    """Give what `waiter` gets in the shape that the client wants. `status`: how the turn is known to stand."""
    correlate(request, turn.turn_id)
    if isinstance(waiter, SseStream):
        return EventStreamResponse(waiter, leave=res.streams.leave)
    try:
        ending = await waiter.wait(ask.wait_seconds)
    finally:
        res.streams.leave(waiter)
    if ending is None or ask.wait_seconds == 0:
        return answers.accepted(request, ask.who.user_id, turn, "in_progress" if waiter.runs else status)
    _log.info("reply_given", **waiter.place, outcome=ending.kind)
    return answers.outcome(request, turn, ending, res.clock)
