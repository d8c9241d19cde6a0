"""What a request says, checked: its user, its body, its headers. Everything raised is a ProblemError."""

from __future__ import annotations

import json
from typing import Any, TypeVar, cast

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request

from logue_common.errors import ProblemError
from logue_common.ids import is_id
from logue_gateway.auth import Principal
from logue_gateway.bootstrap import Resources
from logue_gateway.errors import field_errors

#: No preference of a client makes a request wait longer.
MAX_WAIT_SECONDS = 300
#: No body has nearly as many.
_MAX_FIELDS = 64
MAX_KEY_LENGTH = 255
MAX_CURSOR_LENGTH = 1024
MAX_LIMIT = 100


class Body(BaseModel):
    """Base of request bodies. A field that is not known is an error: a misspelt one must not be ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


B = TypeVar("B", bound=Body)


def resources(request: Request) -> Resources:
    """What the lifespan opened."""
    return cast("Resources", request.app.state.resources)


def principal(request: Request, user_id: str) -> Principal:
    """Who asks. The guard has verified that the path is theirs; should it ever not have, this fails closed."""
    who: Principal | None = getattr(request.state, "principal", None)
    if who is None or who.user_id != user_id:
        raise ProblemError("forbidden", "This token belongs to another user. Use the path of its own user.")
    return who


def path_id(value: str, code: str) -> str:
    """The id in the path. What is no id names nothing: 404 with `code`."""
    if not is_id(value):
        raise ProblemError(code, NOT_FOUND_DETAIL[code])
    return value


NOT_FOUND_DETAIL = {
    "conversation_not_found": "There is no such conversation. Check its id.",
    "turn_not_found": "There is no such turn. Check its id.",
}


async def read_body(request: Request, model: type[B]) -> B:
    """The body as `model`."""
    document = await read_json(request)
    if isinstance(document, dict) and len(document) > _MAX_FIELDS:
        # Pydantic would find something wrong with each: a megabyte of names took 1.5 s, and 10 MB to tell.
        raise validation_problem([{"path": "", "detail": f"has more than {_MAX_FIELDS} fields", "type": "too_long"}])
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise validation_problem(field_errors(error.errors(include_input=False, include_context=False))) from error


async def read_json(request: Request) -> Any:
    """The body, which must be a JSON document in UTF-8 without lone surrogates."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ProblemError("unsupported_media_type", "Send JSON with `Content-Type: application/json`.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        # Nothing is ever inflated: a body is as large as it looks.
        raise ProblemError("unsupported_media_type", "Send the body as it is, without a Content-Encoding.")
    try:
        raw = await request.body()
    except ClientDisconnect:
        raise ProblemError("bad_request", "The connection ended before the body did. Send it again.") from None
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if _has_lone_surrogates(raw):
            found = {"path": "", "detail": "text contains half of a surrogate pair", "type": "surrogate"}
            raise validation_problem([found]) from error
        raise ProblemError("bad_request", "The body is not JSON. Check its syntax and that it is UTF-8.") from error


def _has_lone_surrogates(raw: bytes) -> bool:
    """True when the body is JSON but for text that no Unicode encoding can carry."""
    try:
        text = json.dumps(json.loads(raw.decode()), ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def validation_problem(errors: list[dict[str, Any]]) -> ProblemError:
    """422 that names the fields."""
    return ProblemError("validation_error", "The request is not valid; `errors` lists what to change.", errors=errors)


def invalid(path: str, detail: str) -> ProblemError:
    """422 for one field, parameter or header."""
    return validation_problem([{"path": path, "detail": detail, "type": "value_error"}])


def idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key, 1–255 visible ASCII characters."""
    values = request.headers.getlist("idempotency-key")
    if not values:
        return None
    key = values[0]
    if len(values) > 1 or not 1 <= len(key) <= MAX_KEY_LENGTH or not all("!" <= char <= "~" for char in key):
        raise invalid("Idempotency-Key", "must be one header of 1 to 255 visible ASCII characters")
    return key


def wants_events(request: Request) -> bool:
    """Does `Accept` ask for an event stream?"""
    offered = ",".join(request.headers.getlist("accept")).split(",")
    return any(part.partition(";")[0].strip().lower() == "text/event-stream" for part in offered)


def preferred_wait(request: Request, default_seconds: float) -> float:
    """How long to wait for the reply (RFC 7240): `respond-async` alone not at all. Unusable preferences are ignored."""
    wait: float | None = None
    respond_async = False
    for preference in ",".join(request.headers.getlist("prefer")).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        match name.strip().lower():
            case "respond-async":
                respond_async = True
            case "wait" if wait is None and value.strip().strip('"').isdecimal():
                wait = float(min(int(value.strip().strip('"')[:6]), MAX_WAIT_SECONDS))
    return wait if wait is not None else 0.0 if respond_async else default_seconds
