"""What a request may say, and what it may not."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from starlette.requests import Request

from logue_common.errors import ProblemError
from logue_common.ids import derived_id, is_id, new_id
from logue_gateway.api.identity import TurnIds, fingerprint, turn_ids
from logue_gateway.api.requests import idempotency_key, preferred_wait, read_body, wants_events
from logue_gateway.api.schemas import ChatBody


def request(body: bytes = b"", **headers: str) -> Request:
    sent = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return messages.pop(0)

    return Request({"type": "http", "method": "POST", "path": "/", "headers": sent}, receive)


def read(body: bytes, content_type: str = "application/json") -> ChatBody:
    return asyncio.run(read_body(request(body, content_type=content_type), ChatBody))


def refused(body: Any, content_type: str = "application/json") -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        read(body if isinstance(body, bytes) else orjson.dumps(body), content_type)
    return caught.value


def test_defaults() -> None:
    assert read(b'{"message": "hi"}') == ChatBody(message="hi")


@pytest.mark.parametrize("message", ["x" * 32_000, "👩‍👩‍👧‍👦" * 4571, "\x00", "a\r\nb", "עברית", "é" * 32_000])
def test_messages_are_counted_in_code_points(message: str) -> None:
    assert read(orjson.dumps({"message": message})).message == message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("message", ""),
        ("message", " \n\t\u2003"),
        ("message", "x" * 32_001),
        ("message", 7),
        ("message", None),
        ("message", ["hi"]),
        ("conversation_id", "x"),
        ("conversation_id", new_id().upper()),
        ("conversation_id", 7),
        ("parent_id", "Root"),
        ("parent_id", ""),
        ("stream", "true"),
        ("stream", 1),
        ("model", ""),
        ("model", "x" * 201),
        ("on_busy", "wait"),
        ("on_busy", None),
        ("metadata", []),
        ("metadata", None),
        ("metadata", {"x": "y" * 17_000}),
        ("conversationId", None),
    ],
)
def test_a_field_that_is_wrong_is_named(field: str, value: Any) -> None:
    error = refused({"message": "hi", field: value})
    assert (error.status, error.code) == (422, "validation_error")
    assert error.problem.errors is not None
    assert [found["path"] for found in error.problem.errors] == [field]


def test_metadata_has_a_depth() -> None:
    nested: Any = 1
    for _ in range(20):
        nested = {"x": nested}
    assert refused({"message": "hi", "metadata": nested}).status == 422


@pytest.mark.parametrize("body", [rb'{"message": "\ud800"}', rb'{"message": "hi", "metadata": {"\udc00": 1}}'])
def test_half_a_surrogate_pair_is_422(body: bytes) -> None:
    assert refused(body).status == 422


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"hi",
        b'{"message": "hi"} x',
        b'{"message": NaN}',
        b"\xff\xfe{}",
        b'{"message": "\xff"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_json_is_400(body: bytes) -> None:
    assert refused(body).status == 400


@pytest.mark.parametrize("body", [b"[]", b'"hi"', b"null", b"7"])
def test_json_that_is_no_object_is_422(body: bytes) -> None:
    assert refused(body).status == 422


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "json"])
def test_only_json_is_read(content_type: str) -> None:
    assert refused({"message": "hi"}, content_type).status == 415


def test_json_may_name_its_charset() -> None:
    assert read(b'{"message": "hi"}', "Application/JSON; charset=utf-8").message == "hi"


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("", 30),
        ("respond-async", 0),
        ("Respond-Async", 0),
        ("wait=5", 5),
        ("wait=0", 0),
        ("respond-async, wait=7", 7),
        ("wait=7; x=y, respond-async", 7),
        ('wait="4"', 4),
        ("wait=-1", 30),
        ("wait=soon", 30),
        ("wait=99999999999999999999", 300),
        ("handling=strict", 30),
        ("wait=3, wait=9", 3),
    ],
)
def test_preferences(prefer: str, seconds: float) -> None:
    assert preferred_wait(request(prefer=prefer), 30) == seconds


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/event-stream", True),
        ("application/json, Text/Event-Stream;q=0.5", True),
        ("*/*", False),
        ("application/json", False),
        ("text/event-streams", False),
    ],
)
def test_accept(accept: str, wanted: bool) -> None:
    assert wants_events(request(accept=accept)) is wanted


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 256, "a\x7f"])
def test_keys_that_are_none(key: str) -> None:
    with pytest.raises(ProblemError) as caught:
        idempotency_key(request(idempotency_key=key))
    assert caught.value.status == 422


def test_a_key_makes_the_same_turn_again_for_its_user_only() -> None:
    assert idempotency_key(request(idempotency_key="!" * 255)) == "!" * 255
    assert idempotency_key(request()) is None
    assert turn_ids("ann", "k", None) == turn_ids("ann", "k", None)
    assert turn_ids("ann", "k", None).turn_id != turn_ids("bob", "k", None).turn_id
    assert turn_ids("ann", None, None) != turn_ids("ann", None, None)
    turn = TurnIds(new_id(), new_id())
    assert turn.user_message_id == derived_id("user-message", turn.turn_id)
    assert is_id(turn.reply_message_id)


def test_a_fingerprint_is_of_what_is_asked_not_how_it_is_delivered() -> None:
    asked = ChatBody(message="hi", metadata={"a": 1, "b": 2})
    assert fingerprint(asked) == fingerprint(ChatBody(message="hi", stream=True, metadata={"b": 2, "a": 1}))
    for other in (ChatBody(message="ho"), ChatBody(message="hi", on_busy="reject"), ChatBody(message="hi", model="m")):
        assert fingerprint(asked) != fingerprint(other)
