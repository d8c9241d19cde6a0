"""The shapes of what API.md promises, as far as the checker goes by them."""

from __future__ import annotations

from typing import Any

from tests.chaos.history import TERMINAL

_TEXT = (str,)
_TEXT_OR_NOTHING = (str, type(None))
_DICT_OR_NOTHING = (dict, type(None))
Shape = dict[str, tuple[type, ...]]

_MESSAGE: Shape = {
    "id": _TEXT,
    "role": _TEXT,
    "content": _TEXT,
    "parent_id": _TEXT_OR_NOTHING,
    "created_at": _TEXT,
}
_LISTED: Shape = {**_MESSAGE, "turn_id": _TEXT, "status": _TEXT, "usage": _DICT_OR_NOTHING}
_ACCEPTED: Shape = {"turn_id": _TEXT, "conversation_id": _TEXT, "status": _TEXT}
_ANSWER: Shape = {**_ACCEPTED, "message": _DICT_OR_NOTHING, "usage": _DICT_OR_NOTHING}
_TIMES = ("started_at", "first_token_at", "finished_at")
_TURN: Shape = {
    **_ANSWER,
    "attempt": (int,),
    "requested_at": _TEXT,
    **dict.fromkeys(_TIMES, _TEXT_OR_NOTHING),
    "error": _DICT_OR_NOTHING,
}
_PAGE: Shape = {"items": (list,), "next_cursor": _TEXT_OR_NOTHING}
_PROBLEM: Shape = {"code": _TEXT, "status": (int,), "detail": _TEXT}
_EVENTS: dict[str, Shape] = {
    "turn.started": {"turn_id": _TEXT, "conversation_id": _TEXT, "user_message_id": _TEXT},
    "turn.queued": {"position": (int,)},
    "message.delta": {"delta": _TEXT},
    "message.reset": {"attempt": (int,), "reason": _TEXT},
    "message.snapshot": {"content": _TEXT},
    "message.completed": _ANSWER,
    "turn.failed": {"turn_id": _TEXT, "code": _TEXT},
    "turn.cancelled": {"turn_id": _TEXT, "content": _TEXT},
}
#: (what, status) → body.
_ANSWERS: dict[tuple[str, int], Shape] = {
    ("chat", 200): _ANSWER,
    ("chat", 202): _ACCEPTED,
    ("cancel", 202): _ACCEPTED,
    ("turn", 200): _TURN,
    ("conversations", 200): _PAGE,
    ("messages", 200): _PAGE,
}


def is_answer(what: str, status: int, body: Any) -> bool:
    """Whether the body of an answer is what it should be. Problems have one shape, whatever they are about."""
    if status >= 400:
        return _fits(body, _PROBLEM)
    shape = _ANSWERS.get((what, status))
    if shape is None:
        return status == 204 and body is None
    if not _fits(body, shape):
        return False
    if shape is _PAGE:
        item_shape = _LISTED if what == "messages" else {"id": _TEXT}
        return all(_fits(item, item_shape) for item in body["items"])
    if shape is _ANSWER and body["status"] not in TERMINAL:
        return False
    return _is_message(body.get("message"))


def is_event(name: str, data: Any) -> bool:
    """Whether an event's data is what it should be; of an unknown event anything is."""
    if not _fits(data, _EVENTS.get(name, {})):
        return False
    return name != "message.completed" or (data["status"] == "completed" and _is_message(data["message"] or {}))


def _fits(body: Any, shape: Shape) -> bool:
    return isinstance(body, dict) and all(
        name in body and isinstance(body[name], types) for name, types in shape.items()
    )


def _is_message(message: Any) -> bool:
    return message is None or _fits(message, _MESSAGE)
