"""Whatever is malformed gets the problem object of API.md, and changes nothing."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from tests.e2e.client import Client
from tests.e2e.world import World

_JSON = {"Content-Type": "application/json"}
_TAG = uuid4().hex
#: Names of the table that stand for ids of this test's user.
_NOBODY = str(uuid4())


def _chat(status: int, code: str, /, **body: Any) -> tuple[str, str, Any, dict[str, str], int, str]:
    return ("POST", "chat", {"message": _TAG, **body}, {}, status, code)


def _key(value: str) -> tuple[str, str, Any, dict[str, str], int, str]:
    return ("POST", "chat", {"message": _TAG}, {"Idempotency-Key": value}, 422, "validation_error")


_INVALID = (422, "validation_error")
_BAD = [
    # The body as a whole
    ("POST", "chat", b"", _JSON, 400, "bad_request"),
    ("POST", "chat", b"{", _JSON, 400, "bad_request"),
    ("POST", "chat", b'{"message": "\xff\xfe"}', _JSON, 400, "bad_request"),
    ("POST", "chat", b'{"message": "x"} trailing', _JSON, 400, "bad_request"),
    ("POST", "chat", b'{"message": NaN}', _JSON, 400, "bad_request"),
    ("POST", "chat", b"[" * 100_000, _JSON, 400, "bad_request"),
    ("POST", "chat", b'{"message": "\\ud800"}', _JSON, *_INVALID),
    ("POST", "chat", b"[]", _JSON, *_INVALID),
    ("POST", "chat", b"null", _JSON, *_INVALID),
    ("POST", "chat", b'"text"', _JSON, *_INVALID),
    ("POST", "chat", b"{}", _JSON, *_INVALID),
    ("POST", "chat", b'{"message": "x"}', {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
    ("POST", "chat", b'{"message": "x"}', {}, 415, "unsupported_media_type"),
    ("POST", "chat", b'{"message": "' + b"x" * (1024 * 1024) + b'"}', _JSON, 413, "payload_too_large"),
    # Fields
    _chat(*_INVALID, message=""),
    _chat(*_INVALID, message=" \t\r\n\u2003"),
    _chat(*_INVALID, message="x" * 32_001),
    _chat(*_INVALID, message=None),
    _chat(*_INVALID, message=5),
    _chat(*_INVALID, message=["x"]),
    _chat(*_INVALID, conversation_id="not-an-id"),
    _chat(*_INVALID, conversation_id=""),
    _chat(*_INVALID, conversation_id=1),
    _chat(404, "conversation_not_found", conversation_id=_NOBODY),
    _chat(*_INVALID, parent_id="trunk"),
    _chat(*_INVALID, parent_id=7),
    _chat(*_INVALID, stream="yes"),
    _chat(*_INVALID, stream=1),
    _chat(*_INVALID, model=""),
    _chat(*_INVALID, model="m" * 201),
    _chat(*_INVALID, on_busy="wait"),
    _chat(*_INVALID, metadata=[]),
    _chat(*_INVALID, metadata=None),
    _chat(*_INVALID, metadata={"x": "y" * 20_000}),
    _chat(*_INVALID, metadata=json.loads('{"x":' * 40 + "1" + "}" * 40)),
    _chat(*_INVALID, conversation="misspelt"),
    # Headers
    _key(""),
    _key("k" * 256),
    _key("with blank"),
    _key("tab\there"),
    # Addresses
    ("GET", "turns/not-an-id", None, {}, 404, "turn_not_found"),
    ("GET", f"turns/{_NOBODY}", None, {}, 404, "turn_not_found"),
    ("GET", f"turns/{_NOBODY}/events", None, {}, 404, "turn_not_found"),
    ("GET", "turns/%00", None, {}, 404, "turn_not_found"),
    ("POST", f"turns/{_NOBODY}/cancel", None, {}, 404, "turn_not_found"),
    ("GET", "conversations/not-an-id", None, {}, 404, "conversation_not_found"),
    ("GET", f"conversations/{_NOBODY}", None, {}, 404, "conversation_not_found"),
    ("DELETE", f"conversations/{_NOBODY}", None, {}, 404, "conversation_not_found"),
    ("PATCH", f"conversations/{_NOBODY}", {"title": "x"}, {}, 404, "conversation_not_found"),
    ("GET", f"conversations/{_NOBODY}/messages", None, {}, 404, "conversation_not_found"),
    ("GET", "nowhere", None, {}, 404, "not_found"),
    ("GET", "chat", None, {}, 405, "method_not_allowed"),
    ("PUT", "conversations", {}, {}, 405, "method_not_allowed"),
    # Queries
    *(
        ("GET", f"conversations?{query}", None, {}, *_INVALID)
        for query in ("limit=0", "limit=101", "limit=-1", "limit=ten", "limit=", "limit=1&limit=2", "cursor=", "page=2")
    ),
    ("GET", "conversations?cursor=garbage", None, {}, *_INVALID),
    *(
        ("GET", f"conversations/{{conversation}}/messages?{query}", None, {}, *_INVALID)
        for query in ("order=random", "leaf=x", "after_turn=x", "cursor=garbage", "limit=1.5", "unknown=1")
    ),
    ("GET", f"conversations/{{conversation}}/messages?leaf={_NOBODY}", None, {}, 404, "message_not_found"),
    # Conversations
    *(("POST", "conversations", body, {}, *_INVALID) for body in ({"title": 5}, {"title": "t" * 201}, {"name": "x"})),
    *(("POST", "conversations", body, {}, *_INVALID) for body in ([], {"metadata": "x"}, {"title": ""})),
    *(
        ("PATCH", "conversations/{conversation}", body, {}, *_INVALID)
        for body in ({"archived": "yes"}, {"archived": None}, {"title": "t" * 201}, {"id": _NOBODY}, {"metadata": 1}, 5)
    ),
]


def _name(case: Any) -> str:
    method, path, body, headers, status, code = case
    what = body if isinstance(body, bytes) else json.dumps(body)
    return f"{method} {path[:30]} {what[:40]!r} {json.dumps(headers)[:40]} {status} {code}"


async def test_malformed_requests_get_a_problem_and_change_nothing(client: Client, world: World) -> None:
    done = await client.chat("before")
    await client.ended(done["turn_id"])
    conversations = (await client.get("conversations"))["items"]
    messages = await client.messages(done["conversation_id"])
    wrong = []
    for case in _BAD:
        method, path, body, headers, status, code = case
        content = {"content": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
        address = path.replace("{conversation}", done["conversation_id"])
        answer = await client.request(method, address, headers=headers, **content)
        try:
            _check(answer, status, code)
        except (AssertionError, KeyError, ValueError) as error:
            wrong.append(f"{_name(case)}: {answer.status_code} {answer.text[:300]}: {error}")
    assert not wrong, "\n".join(wrong)
    assert (await client.get("conversations"))["items"] == conversations
    assert await client.messages(done["conversation_id"]) == messages
    assert world.model_calls(_TAG) == 0


def _check(answer: Any, status: int, code: str) -> None:
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["retryable"] is False
    assert problem["correlation_id"] == answer.headers["x-correlation-id"]
    assert problem["type"]
    assert problem["title"]
    assert problem["detail"].endswith((".", "?"))
    assert "traceback" not in answer.text.lower()
    assert "127.0.0.1" not in answer.text
    if status == 422:
        assert problem["errors"]
        assert all(set(error) >= {"path", "detail"} for error in problem["errors"]), "field paths"
