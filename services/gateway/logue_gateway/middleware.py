"""What surrounds every request, as pure ASGI: correlation id, metrics, trace, the guard, routes and errors."""

from __future__ import annotations

import time

import structlog
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.context import Context
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from logue_common.errors import ProblemError
from logue_common.ids import new_id
from logue_common.tracing import TRACER, Span, SpanKind, StatusCode, is_tracing, parent_of
from logue_gateway import metrics
from logue_gateway.auth import Principal
from logue_gateway.authenticator import Authenticator
from logue_gateway.errors import correlation_id, on_http_exception, on_problem, on_unexpected

#: API.md: larger bodies are 413.
MAX_BODY_BYTES = 1024 * 1024
#: Browsers do not guess what an answer is, and caches keep nothing of /api.
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_NO_STORE = (b"cache-control", b"no-store")
#: What clients may call their methods is unbounded; labels are not.
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})

_log = structlog.get_logger(__name__)


class Correlation:
    """Outermost: gives every answer its X-Correlation-ID and what browsers must know, counts it, traces it to its last
    byte, and answers what nobody else caught.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["correlation_id"] = new_id()
        state["arrived_at"] = time.monotonic()
        span: Span = trace.INVALID_SPAN
        started = False

        async def send_correlated(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                found = correlation_id(scope) or ""
                headers = [*message.get("headers", []), (b"x-correlation-id", found.encode()), _NO_SNIFFING]
                if _is_guarded(scope["path"]) and not any(name == b"cache-control" for name, _ in headers):
                    headers.append(_NO_STORE)
                message["headers"] = headers
                route = getattr(scope.get("route"), "path", "unrouted")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                metrics.REQUESTS.labels(method, route, str(message["status"])).inc()
                if span.is_recording():
                    _describe(span, scope, method=method, route=route, status=message["status"])
                    span.set_attribute("logue.turn.id", found)
            await send(message)

        try:
            if is_tracing() and _is_guarded(scope["path"]):
                with TRACER.start_as_current_span("HTTP", _caller(scope), SpanKind.SERVER) as span:
                    await self._app(scope, receive, send_correlated)
            else:
                await self._app(scope, receive, send_correlated)
        except Exception as error:  # noqa: BLE001 (whatever it is, the client gets an answer and the log its trace)
            _log.error("request_failed", correlation_id=correlation_id(scope), exc_info=error)
            if not started:
                response = on_unexpected(Request(scope))
                await response(scope, receive, send_correlated)


def _caller(scope: Scope) -> Context | None:
    """Whose trace the request belongs to."""
    return next((parent_of(value) for name, value in scope["headers"] if name == b"traceparent"), None)


def _describe(span: Span, scope: Scope, *, method: str, route: str, status: int) -> None:
    """What is known once the answer begins (semantic conventions for HTTP servers)."""
    span.update_name(f"{method} {route}")
    span.set_attributes(
        {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            "url.path": scope["path"],
            "url.scheme": scope["scheme"],
        }
    )
    if status >= 500:
        span.set_status(StatusCode.ERROR)


class Guard:
    """Nobody gets past /api without a token, nor to another user's part of it, whether the path is routed or not.

    It compares the segment of the decoded path that the router will match, not of the raw one, so that no encoding
    makes the two differ.
    """

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_guarded(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            principal = await self._authenticator.authenticate(Headers(scope=scope))
            require_owner(scope["path"], principal)
        except ProblemError as error:
            response = on_problem(Request(scope), error)
            await response(scope, receive, send)
            return
        scope["state"]["principal"] = principal
        await self._app(scope, receive, send)


class Routed:
    """Innermost: the routes, a bound for bodies, and the answer to what is raised.

    413 for a body over MAX_BODY_BYTES, by its announced length or as it arrives. `app` describes itself and has the
    lifespan; requests go past it to its routes: its own middleware, seven calls deep, would stay for as long as a
    stream is open, and has nothing to do.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._router = Router(app.routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
            response = on_problem(Request(scope), _too_large())
            await response(scope, receive, send)
            return
        size = 0

        async def receive_bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY_BYTES:
                raise _too_large()
            return message

        try:
            await self._router.app(scope, receive_bounded, send)
        except ProblemError as error:
            response = on_problem(Request(scope), error)
        except HTTPException as error:
            response = on_http_exception(Request(scope), error)
        else:
            return
        await response(scope, receive, send)


def _is_guarded(path: str) -> bool:
    return path == "/api" or path.startswith("/api/")


def require_owner(path: str, principal: Principal) -> None:
    """Raises ProblemError (403) when the path is another user's."""
    segments = path.split("/")
    if len(segments) > 2 and segments[2] != principal.user_id:
        raise ProblemError("forbidden", "This token belongs to another user. Use the path of its own user.")


def _too_large() -> ProblemError:
    return ProblemError("payload_too_large", "The body is larger than 1 MiB. Send less.")
