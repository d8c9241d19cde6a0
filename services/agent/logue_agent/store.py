"""Asks the conversation service for the context of a turn."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import aiohttp
import orjson
from pydantic import ValidationError

from logue_agent import metrics
from logue_common.errors import ProblemError
from logue_common.events import ChatRequested
from logue_common.internal import TurnContext
from logue_common.tracing import SpanKind, child_span, http_headers

_REQUEST_SECONDS = 5.0
#: Between two tries: the service answers 409 until the turn before this one is stored, which takes milliseconds.
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
#: A turn that may be an old one does not wait longer than this for a store that is away.
_AWAY_SECONDS = 0.5
#: Answers that no later try changes.
_FINAL_CODES = frozenset({"conversation_not_found", "message_not_found"})


class _AwayError(Exception):
    """The store did not answer, or not as it should."""


class Store:
    """The internal API of the conversation service."""

    def __init__(self, url: str, token: str, wait_seconds: float) -> None:
        self._url = url.rstrip("/")
        self._wait_seconds = wait_seconds
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"}, timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def context(self, request: ChatRequested) -> TurnContext:
        """The context of the turn, as soon as every earlier turn of its conversation is stored.

        Raises ProblemError: conversation_not_found, message_not_found, or context_unavailable after the wait.
        """
        return await self._context(request, self._wait_seconds)

    async def decided_or_context(self, request: ChatRequested) -> TurnContext | None:
        """The same for a turn that may be an old one; None, soon, when the store is away."""
        try:
            return await self._context(request, _AWAY_SECONDS)
        except ProblemError as error:
            if error.code != "context_unavailable":
                raise
            return None

    async def _context(self, request: ChatRequested, away_seconds: float) -> TurnContext:
        attributes = {"http.request.method": "GET", "logue.turn.id": request.turn_id}
        with child_span("GET context", SpanKind.CLIENT, attributes):
            return await self._until_there(request, away_seconds)

    async def _until_there(self, request: ChatRequested, away_seconds: float) -> TurnContext:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait_seconds
        answered_at = loop.time()
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                context = await self._ask(request)
                answered_at = loop.time()
            except _AwayError:
                context = None
            if context is not None:
                metrics.CONTEXT_FETCHES.labels("ok").inc()
                return context
            if loop.time() + pause > min(deadline, answered_at + away_seconds):
                metrics.CONTEXT_FETCHES.labels("unavailable").inc()
                raise ProblemError(
                    "context_unavailable", "The history of this conversation cannot be read now. Try again in a moment."
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _ask(self, request: ChatRequested) -> TurnContext | None:
        """One try. None: try again later. Raises _AwayError."""
        path = (
            f"/internal/users/{quote(request.user_id, safe='')}/conversations/{request.conversation_id}"
            f"/turns/{request.turn_id}/context"
        )
        params = {} if request.parent_id is None else {"parent_id": request.parent_id}
        try:
            async with self._session.get(self._url + path, params=params, headers=http_headers()) as response:
                body = await response.read()
                if response.status == 200:
                    return TurnContext.model_validate_json(body)
                if response.status == 409:
                    return None
                code = orjson.loads(body).get("code") if response.status == 404 else None
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError, ValidationError) as error:
            raise _AwayError from error
        if code in _FINAL_CODES:
            metrics.CONTEXT_FETCHES.labels(code).inc()
            raise ProblemError(code, _FINAL_DETAILS[code])
        raise _AwayError


_FINAL_DETAILS = {
    "conversation_not_found": "There is no such conversation. Start a new one.",
    "message_not_found": "parent_id names no message of this conversation. Choose one of its messages or none.",
}
