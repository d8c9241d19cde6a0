"""The AsyncAPI 3.0 description of the topics: `python -m logue_common.asyncapi > docs/asyncapi.json`."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from logue_common import topics
from logue_common.errors import Problem
from logue_common.events import (
    AttemptStarted,
    ChatCancelRequested,
    ChatReplied,
    ChatRequested,
    ConversationChanged,
    Event,
)
from logue_common.frames import (
    ATTACH,
    CANCELLED,
    CHECKPOINT,
    COMPLETED,
    DELTA,
    FAILED,
    QUEUED,
    REFUSED,
    RESET,
)
from logue_common.rights import RIGHTS, Operation, topics_of

EVENTS: dict[str, list[type[Event]]] = {
    topics.CHAT_REQUESTED: [ChatRequested],
    topics.CHAT_CANCELS: [ChatCancelRequested],
    topics.CHAT_PROGRESSED: [AttemptStarted],
    topics.CHAT_REPLIED: [ChatReplied],
    topics.CONVERSATION_CHANGED: [ConversationChanged],
}

#: kind of frame → what it tells
FRAMES = {
    QUEUED: "The turn waits behind others of its conversation.",
    DELTA: "The next piece of the reply.",
    RESET: "Forget the text so far: another attempt begins.",
    COMPLETED: "The turn completed; the last frame.",
    FAILED: "The turn failed; the last frame.",
    CANCELLED: "The turn was cancelled; the last frame.",
    CHECKPOINT: "The text so far, for readers that missed some. Not shown to clients that did not.",
    ATTACH: "Answers one request: the turn streams to this position of this topic, or is decided if empty.",
    REFUSED: "Answers one request with a problem. No outcome of the turn.",
}

#: topic → (key, what it is for)
_CHANNELS = {
    topics.CHAT_REQUESTED: ("conversation_id", "A turn was accepted."),
    topics.CHAT_CANCELS: ("conversation_id", "Someone asked to stop a turn: an intent, never an outcome."),
    topics.CHAT_PROGRESSED: ("conversation_id", "How an attempt at a turn gets on."),
    topics.CHAT_REPLIED: ("conversation_id", "Outcomes of turns. The first one of a turn in its partition decides."),
    topics.CHAT_STREAM: ("turn_id", "Frames: values are finished data lines of server-sent events."),
    topics.CONVERSATION_CHANGED: ("user_id", "What changed for a user."),
    topics.CHAT_DLQ: ("as the original", "Records that no consumer could read, with the cause in headers."),
}

#: service → (topics that it writes, topics that it reads)
_SERVICES = {service: (topics_of(service, Operation.WRITE), topics_of(service, Operation.READ)) for service in RIGHTS}

_TEXT = {"type": "string"}
_WHOLE = {"type": "integer", "minimum": 0}
_NULL = {"type": "null"}
_REQUIRED_EVENT_HEADERS = (
    *("ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "ce_subject"),
    *("correlation_id", "content-type"),
)
_REQUIRED_FRAME_HEADERS = ("user", "attempt", "n", "kind")


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


_EVENT_HEADERS = {
    "type": "object",
    "properties": dict.fromkeys((*_REQUIRED_EVENT_HEADERS, "traceparent"), _TEXT),
    "required": list(_REQUIRED_EVENT_HEADERS),
}
_FRAME_HEADERS = {
    "type": "object",
    "description": "Numbers are decimal text. `n` counts from 1 within an attempt; `request` names the one request "
    "that an attach or refused frame answers.",
    "properties": dict.fromkeys((*_REQUIRED_FRAME_HEADERS, "request", "model_ms"), _TEXT),
    "required": list(_REQUIRED_FRAME_HEADERS),
}
_FRAME_PAYLOADS: dict[str, dict[str, Any]] = {
    QUEUED: _object(position=_WHOLE),
    DELTA: _object(delta=_TEXT),
    RESET: _object(attempt=_WHOLE, reason=_TEXT),
    COMPLETED: _object(
        conversation_id=_TEXT,
        turn_id=_TEXT,
        status={"const": "completed"},
        model={"anyOf": [_TEXT, _NULL]},
        message=_reference("ReplyMessage"),
        usage={"anyOf": [_reference("Usage"), _NULL]},
    ),
    FAILED: {"allOf": [_reference("Problem"), _object(turn_id=_TEXT)]},
    CANCELLED: _object(turn_id=_TEXT, content=_TEXT),
    CHECKPOINT: _object(content=_TEXT),
    ATTACH: {"type": "object", "properties": {"partition": _WHOLE, "offset": _WHOLE}},
    REFUSED: _reference("Problem"),
}


def document() -> dict[str, Any]:
    """The AsyncAPI document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Logue",
            "version": "1.0.0",
            "description": "What the Kafka topics of Logue carry. Events change by addition only, and unknown fields "
            "are ignored. Made by `python -m logue_common.asyncapi`; do not edit.",
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(name) for name in topics.ALL_TOPICS},
        "operations": dict(_operations()),
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _channel(name: str) -> dict[str, Any]:
    key, description = _CHANNELS[name]
    return {
        "address": name,
        "description": f"{description} Key: {key}.",
        "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in _messages_of(name)},
    }


def _messages_of(topic: str) -> list[str]:
    if topic == topics.CHAT_STREAM:
        return list(FRAMES)
    return [event.__name__ for event in EVENTS.get(topic, [])] or ["DeadLetter"]


def _operations() -> list[tuple[str, dict[str, Any]]]:
    return [
        (
            f"{service}.{verb}.{topic}",
            {"action": verb, "channel": {"$ref": f"#/channels/{topic}"}, "summary": f"{service}: {topic}"},
        )
        for service, directions in _SERVICES.items()
        for verb, names in zip(("send", "receive"), directions, strict=True)
        for topic in names
    ]


def _messages() -> dict[str, Any]:
    messages: dict[str, Any] = {}
    for topic, events in EVENTS.items():
        for event in events:
            messages[event.__name__] = {
                "name": event.event_type,
                "summary": (event.__doc__ or "").strip().splitlines()[0],
                "headers": _EVENT_HEADERS,
                "payload": _reference(event.__name__),
                "bindings": {"kafka": {"key": {"type": "string", "description": _CHANNELS[topic][0]}}},
            }
    for kind, summary in FRAMES.items():
        messages[kind] = {
            "name": kind,
            "summary": summary,
            "headers": _FRAME_HEADERS,
            "payload": _FRAME_PAYLOADS[kind],
            "bindings": {"kafka": {"key": {"type": "string", "description": "turn_id"}}},
        }
    messages["DeadLetter"] = {"summary": _CHANNELS[topics.CHAT_DLQ][1], "payload": {"description": "As it was found."}}
    return messages


def _schemas() -> dict[str, Any]:
    models: list[type[BaseModel]] = [*(event for events in EVENTS.values() for event in events), Problem]
    named = [(model, "validation") for model in models]
    _, definitions = models_json_schema(named, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas


if __name__ == "__main__":
    print(orjson.dumps(document(), option=orjson.OPT_INDENT_2).decode())  # noqa: T201 (a command's answer)
