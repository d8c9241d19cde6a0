"""The wire schema of every event. A golden file changes only by addition: old records stay readable, and old readers
read new ones.

A field was added on purpose? Add it to `expected.py`, and write the files anew: `python -m tests.contract.pin`.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from tests.contract.expected import FULL
from tests.contract.pin import GOLDEN, MODELS, SCHEMAS

from logue_common.asyncapi import EVENTS
from logue_common.errors import UnreadableRecordError
from logue_common.events import Event, decode, encode
from logue_common.internal import StoredTurn, TurnContext

REQUIRED = {
    "chat_requested": {
        "user_id",
        "conversation_id",
        "turn_id",
        "user_message_id",
        "reply_message_id",
        "content",
        "reply_to",
        "requested_at",
    },
    "chat_cancel_requested": {"user_id", "conversation_id", "turn_id", "requested_at"},
    "chat_cancel_requested_of_a_conversation": {"user_id", "conversation_id", "turn_id", "requested_at"},
    "attempt_started": {"user_id", "conversation_id", "turn_id", "attempt", "started_at"},
    "chat_replied_completed": {"user_id", "conversation_id", "turn_id", "status", "attempt", "n", "finished_at"},
    "chat_replied_failed": {"user_id", "conversation_id", "turn_id", "status", "attempt", "n", "finished_at"},
    "conversation_changed": {"user_id", "conversation_id", "change", "changed_at"},
}
TYPES = {
    "ChatRequested": "logue.chat.requested",
    "ChatCancelRequested": "logue.chat.cancel_requested",
    "AttemptStarted": "logue.chat.attempt_started",
    "ChatReplied": "logue.chat.replied",
    "ConversationChanged": "logue.conversation.changed",
}


def golden(name: str) -> dict[str, Any]:
    value: dict[str, Any] = orjson.loads((GOLDEN / f"{name}.json").read_bytes())
    return value


def test_every_event_has_golden_files_and_every_file_an_event() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(FULL)
    assert {type(event) for event in FULL.values()} == {event for events in EVENTS.values() for event in events}
    assert {type(event) for event in FULL.values()} == set(_events(Event))


def _events(base: type[Event]) -> list[type[Event]]:
    return [leaf for sub in base.__subclasses__() for leaf in (sub, *_events(sub))]


@pytest.mark.parametrize("name", FULL)
def test_a_golden_file_decodes_to_its_event(name: str) -> None:
    event = FULL[name]
    assert decode(type(event), (GOLDEN / f"{name}.json").read_bytes()) == event


@pytest.mark.parametrize("name", FULL)
def test_an_event_encodes_to_its_golden_file(name: str) -> None:
    assert orjson.loads(encode(FULL[name])) == golden(name)


@pytest.mark.parametrize("name", FULL)
def test_unknown_fields_are_ignored_at_every_level(name: str) -> None:
    event = FULL[name]
    assert decode(type(event), orjson.dumps(_with_news(golden(name)))) == event


def _with_news(value: dict[str, Any]) -> dict[str, Any]:
    """As a later version would write it. What clients put into `metadata` is theirs."""
    nested = {
        key: _with_news(inner) if isinstance(inner, dict) and key != "metadata" else inner
        for key, inner in value.items()
    }
    return {"a_new_field": [1], **nested}


@pytest.mark.parametrize("name", FULL)
def test_only_the_first_versions_fields_are_required(name: str) -> None:
    event = FULL[name]
    for field in golden(name):
        value = orjson.dumps({key: inner for key, inner in golden(name).items() if key != field})
        if field in REQUIRED[name]:
            with pytest.raises(UnreadableRecordError, match=f"{field}: Field required"):
                decode(type(event), value)
        else:
            decode(type(event), value)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_the_schema_is_the_pinned_one(model: type[Event]) -> None:
    """Events, and what the services tell each other by HTTP."""
    pinned = orjson.loads((SCHEMAS / f"{model.__name__}.json").read_bytes())
    assert model.model_json_schema() == pinned


def test_everything_that_crosses_a_wire_is_pinned() -> None:
    assert set(MODELS) == {*_events(Event), StoredTurn, TurnContext}
    assert {path.stem for path in SCHEMAS.glob("*.json")} == {model.__name__ for model in MODELS}


def test_cloudevents_types_never_change() -> None:
    assert {event.__name__: event.event_type for event in _events(Event)} == TYPES
