"""Request bodies of the public API."""

from __future__ import annotations

import math
from typing import Annotated, Any

import orjson
from fastapi import Depends
from fastapi.security import HTTPBearer
from pydantic import AfterValidator, Field, WithJsonSchema

from logue_common.events import Id, OnBusy
from logue_common.ids import is_id
from logue_gateway.api.requests import Body

MAX_MESSAGE_CHARACTERS = 32_000
_MAX_METADATA_BYTES = 16 * 1024
_MAX_METADATA_DEPTH = 16
_MAX_TITLE_CHARACTERS = 200
#: The same in JSON Schema, for the documentation: white space as Python has it.
_NOT_BLANK = r"[^\s\x1c-\x1f\x85]"
_PARENT = {"anyOf": [{"const": "root"}, {"type": "string", "format": "uuid"}]}


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _parent(value: str) -> str:
    if value != "root" and not is_id(value):
        raise ValueError('must be the id of a message, "root" or null')
    return value


def _bounded(metadata: dict[str, Any]) -> dict[str, Any]:
    _check_depth(metadata, _MAX_METADATA_DEPTH)
    if len(orjson.dumps(metadata)) > _MAX_METADATA_BYTES:
        raise ValueError(f"must have at most {_MAX_METADATA_BYTES} bytes as JSON")
    return metadata


def _check_depth(value: Any, depth: int) -> None:
    if depth < 0:
        raise ValueError(f"must not be nested deeper than {_MAX_METADATA_DEPTH}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must contain finite numbers only")
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        _check_depth(child, depth - 1)


Metadata = Annotated[dict[str, Any], AfterValidator(_bounded)]
Title = Annotated[str, Field(min_length=1, max_length=_MAX_TITLE_CHARACTERS)]


class ChatBody(Body):
    """POST /api/{user_id}/chat."""

    message: Annotated[
        str,
        Field(min_length=1, max_length=MAX_MESSAGE_CHARACTERS, json_schema_extra={"pattern": _NOT_BLANK}),
        AfterValidator(_not_blank),
    ]
    conversation_id: Id | None = None
    stream: bool = False
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    parent_id: Annotated[str, AfterValidator(_parent), WithJsonSchema(_PARENT)] | None = None
    on_busy: OnBusy = "enqueue"
    metadata: Metadata = Field(default_factory=dict)


class ConversationBody(Body):
    """POST /api/{user_id}/conversations."""

    title: Title | None = None
    metadata: Metadata = Field(default_factory=dict)


class ConversationPatch(Body):
    """PATCH /api/{user_id}/conversations/{id}."""

    title: Title | None = None
    archived: bool = False
    metadata: Metadata = Field(default_factory=dict)


#: For the documentation; the guard has verified the token long before.
bearer = Depends(HTTPBearer(auto_error=False, bearerFormat="JWT"))
