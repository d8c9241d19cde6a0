"""Every error leaves as problem+json (RFC 9457), those of the router too."""

from __future__ import annotations

import orjson
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from logue_common.errors import PROBLEM_JSON, ProblemError
from logue_common.ids import new_id
from logue_conversation.api.bodies import invalid
from logue_conversation.errors import DataRejectedError, LogUnavailableError, StoreUnavailableError

_ROUTER_PROBLEMS = {
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not take that method; `Allow` names those that it takes."),
}
_UNAVAILABLE = "Stored conversations cannot be read now. Try again in a moment."

_log = structlog.get_logger(__name__)


def problem_response(error: ProblemError, correlation_id: str | None = None) -> Response:
    """`error` as a response."""
    body = error.problem.model_dump(exclude_none=True)
    body["correlation_id"] = correlation_id or new_id()
    headers = dict(error.headers)
    if error.status == 503:
        headers.setdefault("Retry-After", "1")
    return Response(orjson.dumps(body), error.status, headers, PROBLEM_JSON)


def install(app: FastAPI) -> None:
    """Register the handlers."""

    def respond(request: Request, error: ProblemError) -> Response:
        return problem_response(error, request.headers.get("x-correlation-id"))

    async def of_problem(request: Request, error: Exception) -> Response:
        if not isinstance(error, ProblemError):
            raise error
        return respond(request, error)

    async def of_unavailable(request: Request, error: Exception) -> Response:
        _log.warning("request_unavailable", cause=str(error))
        return respond(request, ProblemError("unavailable", _UNAVAILABLE))

    async def of_rejected(request: Request, error: Exception) -> Response:
        _log.warning("request_rejected", sqlstate=getattr(error, "sqlstate", None))
        return respond(request, ProblemError("validation_error", "The request holds a value that cannot be stored."))

    async def of_validation(request: Request, error: Exception) -> Response:
        found = error.errors() if isinstance(error, RequestValidationError) else []
        found = [{**item, "loc": item["loc"][1:]} for item in found]  # without "query", "path"
        return respond(request, invalid(found))

    async def of_router(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code, detail = _ROUTER_PROBLEMS.get(status, ("bad_request", "The request cannot be understood."))
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        return respond(request, ProblemError(code, detail, headers=headers))

    async def of_defect(request: Request, error: Exception) -> Response:
        _log.error("request_failed", exc_info=error)
        return respond(request, ProblemError("internal_error", "Something went wrong here. Try again later."))

    app.add_exception_handler(ProblemError, of_problem)
    app.add_exception_handler(StoreUnavailableError, of_unavailable)
    app.add_exception_handler(LogUnavailableError, of_unavailable)
    app.add_exception_handler(DataRejectedError, of_rejected)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(HTTPException, of_router)
    app.add_exception_handler(Exception, of_defect)
