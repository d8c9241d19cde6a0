"""How errors leave the gateway: always as problem+json with the correlation id.

LogueError
├── ProblemError             answered as it is
│   └── AuthenticationError  401, with WWW-Authenticate
└── TokenError               a token that proves nothing
    └── UnknownKeyError      … because its key is not (yet) known
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from logue_common.errors import PROBLEM_JSON, LogueError, Problem, ProblemError, problem

#: What clients that must come back are told, in seconds.
RETRY_AFTER = "1"
_RETRY_LATER = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
#: Names of unknown fields are the client's.
_MAX_PATH_CHARACTERS = 200
#: What `Allow` may name.
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class TokenError(LogueError):
    """The token proves nothing. The text names the cause for logs and metrics, not for the client."""


class UnknownKeyError(TokenError):
    """The token names a key that is not in the key set."""


class AuthenticationError(ProblemError):
    """401: no token, or one that proves nothing."""

    def __init__(self, detail: str, *, invalid: bool) -> None:
        challenge = 'Bearer realm="logue", error="invalid_token"' if invalid else 'Bearer realm="logue"'
        super().__init__("unauthorized", detail, headers={"WWW-Authenticate": challenge})


def unavailable(detail: str) -> ProblemError:
    """503 for a dependency that is away."""
    return ProblemError("unavailable", detail)


def correlation_id(scope: Scope) -> str | None:
    """The id that this request's answer carries."""
    value = scope.get("state", {}).get("correlation_id")
    return value if isinstance(value, str) else None


def correlate(connection: HTTPConnection, turn_id: str) -> None:
    """From here on the request belongs to a turn: its id is the correlation id."""
    connection.scope["state"]["correlation_id"] = turn_id


def problem_response(scope: Scope, found: Problem, headers: dict[str, str] | None = None, **extra: Any) -> Response:
    """`found` as a response. `extra` are further members of the problem object (RFC 9457, 3.2)."""
    body = found.model_dump(exclude_none=True)
    body["correlation_id"] = correlation_id(scope)
    body.update(extra)
    sent = dict(headers or {})
    if found.status in _RETRY_LATER:
        sent.setdefault("Retry-After", RETRY_AFTER)
    return Response(orjson.dumps(body), found.status, sent, PROBLEM_JSON)


def field_errors(errors: list[ErrorDetails]) -> list[dict[str, Any]]:
    """What Pydantic found, as field paths and sentences; never the input itself."""
    return [
        {
            "path": ".".join(str(part) for part in error["loc"])[:_MAX_PATH_CHARACTERS],
            "detail": error["msg"],
            "type": error["type"],
        }
        for error in errors
    ]


class AcceptUnknownError(ProblemError):
    """503: the broker did not confirm the turn; it may or may not run."""

    def __init__(self, turn_id: str) -> None:
        super().__init__(
            "accept_unknown",
            "It is not known whether the message was accepted. Send it again with the same Idempotency-Key; "
            "without a key it is stopped as soon as that is possible.",
        )
        self.turn_id = turn_id


def on_problem(request: Request, error: ProblemError) -> Response:
    """The answer to a problem."""
    if isinstance(error, AcceptUnknownError):
        return problem_response(request.scope, error.problem, error.headers, turn_id=error.turn_id)
    return problem_response(request.scope, error.problem, error.headers)


def on_http_exception(request: Request, error: HTTPException) -> Response:
    """The answer to what the router raises: 404 and 405."""
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.NOT_FOUND:
        found = problem("not_found", "Nothing is served under this address. /docs lists what is.")
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        found = problem("method_not_allowed", "This address does not answer this method; the Allow header lists which.")
        headers["Allow"] = ", ".join(_allowed(request))
    else:
        found = problem("bad_request", "The request cannot be read. Check it against /docs.")
    return problem_response(request.scope, found, headers)


def _allowed(request: Request) -> list[str]:
    """The methods of the request's address. The router names those of the first route that it finds only."""
    scopes = [{**request.scope, "method": method} for method in _METHODS]
    routes = request.app.routes
    return [scope["method"] for scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in routes)]


def on_unexpected(request: Request) -> Response:
    """The answer to everything else: a defect of ours, which the outermost middleware logs."""
    return problem_response(
        request.scope, problem("internal_error", "Something went wrong on our side. Try again in a moment.")
    )
