"""Events: what cannot be read says why without saying what, and headers tell whose it is."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logue_common.errors import UnreadableRecordError
from logue_common.events import (
    ChatCancelRequested,
    ChatRequested,
    ConversationChanged,
    decode,
    encode,
    event_headers,
    legible_ids,
)
from logue_common.ids import derived_id, is_id

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TURN = derived_id("turn", "1")
CONVERSATION = derived_id("conversation", "1")
SECRET = "squeamish ossifrage"

REQUESTED: dict[str, Any] = {
    "user_id": "user-1",
    "conversation_id": CONVERSATION,
    "turn_id": TURN,
    "user_message_id": derived_id("question", "1"),
    "reply_message_id": derived_id("reply", "1"),
    "content": SECRET,
    "reply_to": {"partition": 0, "offset": 0, "request_id": "request-1"},
    "requested_at": "2026-01-01T00:00:00Z",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.just(SECRET),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just(SECRET), inner, max_size=1),
    max_leaves=4,
)


def test_an_event_survives_the_log() -> None:
    event = ChatRequested.model_validate(
        REQUESTED | {"content": "\u200fעברית 👍 \0 \r\n", "metadata": {"a": [1, None]}}
    )
    assert decode(ChatRequested, encode(event)) == event


def test_a_record_without_a_value_says_so() -> None:
    with pytest.raises(UnreadableRecordError, match="no value"):
        decode(ChatRequested, None)


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (b"", "Invalid JSON"),
        (SECRET.encode(), "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[]", "value: "),
        (b"[" * 100_000, "Invalid JSON"),
        (orjson.dumps(REQUESTED | {"turn_id": SECRET}), "turn_id: .*UUID"),
        (orjson.dumps(REQUESTED | {"turn_id": TURN.upper()}), "turn_id: .*UUID"),
        (orjson.dumps(REQUESTED | {"user_id": ""}), "user_id: "),
        (orjson.dumps(REQUESTED | {"user_id": SECRET * 20}), "user_id: "),
        (orjson.dumps(REQUESTED | {"on_busy": SECRET}), "on_busy: "),
        (orjson.dumps(REQUESTED | {"reply_to": {"partition": SECRET}}), r"reply_to\.partition: "),
        (orjson.dumps({k: v for k, v in REQUESTED.items() if k != "content"}), "content: Field required"),
    ],
)
def test_an_unreadable_record_names_its_cause(value: bytes, cause: str) -> None:
    with pytest.raises(UnreadableRecordError, match=cause) as caught:
        decode(ChatRequested, value)
    _assert_secret_is_kept(caught.value)


@given(st.dictionaries(st.sampled_from(sorted(REQUESTED)), JSON, min_size=1))
def test_a_cause_never_holds_content(changes: dict[str, Any]) -> None:
    try:
        decode(ChatRequested, orjson.dumps(REQUESTED | changes))
    except UnreadableRecordError as error:
        _assert_secret_is_kept(error)


def _assert_secret_is_kept(error: Exception) -> None:
    """Neither in the text, which goes to the dead letter's headers, nor in a logged traceback."""
    assert SECRET not in str(error)
    assert len(str(error)) < 2000
    frames = traceback.TracebackException.from_exception(error, lookup_lines=False)
    assert SECRET not in "".join(line for line in frames.format() if not line.lstrip().startswith("File"))


def test_headers_are_those_of_cloudevents() -> None:
    event = ChatRequested.model_validate(REQUESTED)
    headers = event_headers(event, source="gateway", at=NOW, traceparent="00-1-2-01")
    named = dict(headers)
    assert len(named) == len(headers)
    assert is_id(named.pop("ce_id").decode())
    assert named == {
        "ce_specversion": b"1.0",
        "ce_type": b"logue.chat.requested",
        "ce_source": b"/logue/gateway",
        "ce_time": b"2026-01-01T00:00:00+00:00",
        "ce_subject": CONVERSATION.encode(),
        "correlation_id": TURN.encode(),
        "content-type": b"application/json",
        "traceparent": b"00-1-2-01",
    }


@pytest.mark.parametrize(
    "event",
    [
        ChatCancelRequested(user_id="user-1", conversation_id=CONVERSATION, turn_id=None, requested_at=NOW),
        ConversationChanged(
            user_id="user-1", conversation_id=CONVERSATION, change="conversation.created", changed_at=NOW
        ),
    ],
)
def test_an_event_of_no_turn_correlates_by_its_conversation(event: ChatCancelRequested | ConversationChanged) -> None:
    named = dict(event_headers(event, source="conversation", at=NOW))
    assert named["correlation_id"] == CONVERSATION.encode()
    assert "traceparent" not in named


def test_ids_of_a_refused_record_are_legible() -> None:
    value = orjson.dumps(REQUESTED | {"on_busy": "explode"})
    assert legible_ids(value) == {"turn_id": TURN, "conversation_id": CONVERSATION, "user_id": "user-1"}


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff",
        b"[" * 100_000,
        orjson.dumps(REQUESTED | {"turn_id": "1"}),
        orjson.dumps(REQUESTED | {"turn_id": None}),
        orjson.dumps(REQUESTED | {"conversation_id": ["x"]}),
        orjson.dumps(REQUESTED | {"user_id": ""}),
        orjson.dumps(REQUESTED | {"user_id": "u" * 256}),
    ],
)
def test_ids_are_legible_together_or_not_at_all(value: bytes | None) -> None:
    assert legible_ids(value) is None


@given(st.binary())
def test_no_bytes_break_the_search_for_ids(value: bytes) -> None:
    assert legible_ids(value) is None
