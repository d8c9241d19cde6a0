"""The conversation service, as the gateway calls it. Bytes pass through; only errors and turns are looked into."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
import structlog
from pydantic import ValidationError
from yarl import URL

from logue_common.errors import PROBLEMS, ProblemError
from logue_common.internal import StoredTurn
from logue_common.tracing import SpanKind, child_span, http_headers
from logue_gateway import metrics
from logue_gateway.errors import unavailable
from logue_gateway.shares import Shares

#: The service itself may wait 2 s for its writer (and 2 s for `after_turn`).
TIMEOUT = aiohttp.ClientTimeout(total=8.0, connect=2.0)
_CONNECTIONS = 256
#: Of these for one user: an id that is not known yet keeps its connection for up to 2 s.
_CONNECTIONS_OF_USER = 16
_SHARE_WAIT_SECONDS = 5.0
#: A replica that ends closes several connections of the pool at once, and aiohttp tries one other only.
_READ_TRIES, _READ_PAUSE_SECONDS = 3, 0.05
#: Statuses that mean: this gateway and the service do not understand each other.
_OUR_FAULT = frozenset({401, 403, 405, 415})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer of the conversation service."""

    status: int
    body: bytes


class Store:
    """Internal HTTP API of the conversation service. Every method raises ProblemError as the client shall see it."""

    def __init__(self, url: str, token: str) -> None:
        self._base = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._session: aiohttp.ClientSession | None = None
        self._shares = Shares(_CONNECTIONS_OF_USER, _SHARE_WAIT_SECONDS)

    def open(self) -> None:
        """Make the session; connections are made when needed."""
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=TIMEOUT, connector=aiohttp.TCPConnector(limit=_CONNECTIONS)
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def check(self) -> str | None:
        """For /readyz: does the service answer at all? (Whether its database does is for its own /readyz.)"""
        assert self._session is not None  # noqa: S101 (open() comes first)
        try:
            async with self._session.get(URL(self._base + "/healthz", encoded=True)) as response:
                return None if response.status == 200 else f"answers {response.status}"
        except (aiohttp.ClientError, TimeoutError):
            return "cannot be reached"

    async def call(
        self,
        method: str,
        user_id: str,
        path: str,
        *,
        route: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """One call under /internal/users/{user_id}. `route` names it in metrics."""
        url = URL(f"{self._base}/internal/users/{quote(user_id, safe='')}{path}", encoded=True)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        attributes = {"http.request.method": method, "server.address": url.host or "", "logue.route": route}
        try:
            with child_span(f"{method} {route}", SpanKind.CLIENT, attributes) as span:
                async with self._shares.of(user_id):
                    answer = await self._send(method, url.with_query(query), body, headers | http_headers())
                span.set_attribute("http.response.status_code", answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            metrics.STORE_CALLS.labels(route, "unreachable").inc()
            _log.warning("store_unreachable", route=route, cause=type(error).__name__)
            raise unavailable("Stored conversations cannot be read right now. Try again in a moment.") from error
        if 200 <= answer.status < 300:
            metrics.STORE_CALLS.labels(route, "ok").inc()
            return answer
        raise _refusal(route, answer)

    async def _send(self, method: str, url: URL, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        assert self._session is not None  # noqa: S101 (open() comes first)
        tries = _READ_TRIES if method == "GET" else 1
        while True:
            tries -= 1
            try:
                async with self._session.request(
                    method, url, data=body, headers=headers, allow_redirects=False
                ) as response:
                    return Answer(response.status, await response.read())
            except aiohttp.ClientConnectionError as error:
                if not tries or isinstance(error, TimeoutError):
                    raise
                await asyncio.sleep(_READ_PAUSE_SECONDS)

    async def turn(self, user_id: str, turn_id: str) -> StoredTurn:
        """How a turn stands. Raises ProblemError `turn_not_found` or `unavailable`."""
        return parse_turn(await self.turn_answer(user_id, turn_id))

    async def turn_answer(self, user_id: str, turn_id: str) -> Answer:
        """The same as bytes: a StoredTurn with its internals."""
        return await self.call("GET", user_id, f"/turns/{turn_id}", route="turn")

    async def require_conversation(self, user_id: str, conversation_id: str) -> None:
        """Raises ProblemError `conversation_not_found` unless it is this user's."""
        await self.call("GET", user_id, f"/conversations/{conversation_id}", route="conversation")


def parse_turn(answer: Answer) -> StoredTurn:
    """The turn in an answer."""
    try:
        return StoredTurn.model_validate_json(answer.body)
    except ValidationError as error:
        _log.error("store_answer_unreadable", cause=str(error.errors(include_input=False)[:3]))
        raise unavailable("Stored turns cannot be read right now. Try again in a moment.") from error


def _refusal(route: str, answer: Answer) -> ProblemError:
    """The problem that the service answered with, or `unavailable` when the client can do nothing about it."""
    found: Any = None
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        _log.warning("store_answer_unreadable", route=route, status=answer.status)
    code = found.get("code") if isinstance(found, dict) else None
    if answer.status >= 500 or answer.status in _OUR_FAULT or not isinstance(code, str) or code not in PROBLEMS:
        metrics.STORE_CALLS.labels(route, "failed").inc()
        _log.warning("store_failed", route=route, status=answer.status, code=code)
        return unavailable("Stored conversations cannot be read right now. Try again in a moment.")
    metrics.STORE_CALLS.labels(route, "refused").inc()
    errors = found.get("errors")
    is_list = isinstance(errors, list) and all(isinstance(error, dict) for error in errors)
    return ProblemError(code, str(found.get("detail", "")), errors=errors if is_list else None)
