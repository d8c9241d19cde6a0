"""One trace from the request to the last byte, the model and the database; whatever is in between."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.integration.telemetry.collector import Collector, Span

from logue_devstack.stack import Stack

_SERVER, _CLIENT, _PRODUCER, _CONSUMER = 2, 3, 4, 5
_CHAT = ("gateway", "POST /api/{user_id}/chat")
_ASKED, _REPLIED = ("gateway", "send chat.requested"), ("agent", "send chat.replied")
_ANSWER = ("agent", "process chat.requested")
_MODEL = ("agent", "chat demo")
_STORED_ASKED, _STORED = ("conversation", "process chat.requested"), ("conversation", "process chat.replied")
_WRITTEN = ("conversation", "transaction logue")


class Asker:
    """Asks as one user, as a part of a trace of its own each time."""

    def __init__(self, stack: Stack, traces: Collector) -> None:
        self._stack = stack
        self._traces = traces

    def ask(self, message: str, *, sampled: bool = True, **body: Any) -> tuple[str, str, dict[str, Any]]:
        """Trace, the caller's span, and the last event's or the whole answer."""
        trace, span = secrets.token_hex(16), secrets.token_hex(8)
        headers = {
            "Authorization": f"Bearer {self._stack.token('user-1')}",
            "traceparent": f"00-{trace}-{span}-{'01' if sampled else '00'}",
        }
        url = f"{self._stack.gateway_urls[0]}/api/user-1/chat"
        answer = httpx.post(url, json={"message": message, **body}, headers=headers, timeout=30.0)
        assert answer.status_code == 200, answer.text
        return trace, span, answer.json() if not body.get("stream") else {"text": answer.text}

    def tree(self, trace: str, *titles: tuple[str, str]) -> list[Span]:
        """The spans of a trace once all these are there."""
        wanted = set(titles)
        self._traces.wait(lambda: wanted <= {span.title for span in self._traces.of(trace)})
        return self._traces.of(trace)


@pytest.fixture
def asker(stack: Stack, traces: Collector) -> Asker:
    return Asker(stack, traces)


def test_one_turn_is_one_trace(asker: Asker, traces: Collector) -> None:
    trace, caller, _ = asker.ask("hello {{tokens=50 gap=0.01}}", stream=True)
    spans = asker.tree(trace, _CHAT, _ASKED, _ANSWER, _MODEL, _REPLIED, _STORED_ASKED, _STORED, _WRITTEN)
    of = _finder(spans)

    chat = of(_CHAT)
    assert (chat.parent, chat.kind) == (caller, _SERVER)
    assert chat.attributes["http.response.status_code"] == 200
    turn = chat.attributes["logue.turn.id"]

    asked = of(_ASKED)
    assert (asked.parent, asked.kind) == (chat.id, _PRODUCER)
    assert asked.attributes["messaging.destination.name"] == "chat.requested"

    answer = of(_ANSWER)
    assert (answer.parent, answer.kind) == (asked.id, _CONSUMER)
    assert answer.attributes["messaging.system"] == "kafka"
    assert answer.attributes["messaging.message.conversation_id"] == turn

    model = of(_MODEL)
    assert (model.parent, model.kind) == (answer.id, _CLIENT)
    assert model.attributes["gen_ai.operation.name"] == "chat"
    assert model.attributes["gen_ai.usage.output_tokens"] > 0
    assert model.events == ("gen_ai.first_token",)

    replied = of(_REPLIED)
    assert (replied.parent, replied.kind) == (answer.id, _PRODUCER)

    for title, cause in ((_STORED_ASKED, asked), (_STORED, replied)):
        stored = of(title)
        assert (stored.parent, stored.kind) == (cause.id, _CONSUMER)
        written = next(span for span in spans if span.title == _WRITTEN and span.parent == stored.id)
        assert written.kind == _CLIENT
        assert written.attributes["db.system.name"] == "postgresql"

    assert chat.ended > model.ended, "the request's span ends with the last byte"
    assert not any(span.failed for span in spans)


def test_a_batch_and_its_turns_lead_to_each_other(asker: Asker, traces: Collector) -> None:
    trace, _, _ = asker.ask("hello")
    stored = _finder(asker.tree(trace, _STORED))(_STORED)
    batch = ("conversation", "store batch")
    traces.wait(lambda: any(span.title == batch and span.id in stored.links for span in traces.spans))
    found = next(span for span in traces.spans if span.id in stored.links)
    assert stored.parent in found.links


def test_the_context_that_is_asked_of_the_store_belongs_to_the_trace(asker: Asker, stack: Stack) -> None:
    _, _, first = asker.ask("hello")
    stack.restart("agent-0")  # which forgets
    trace, _, _ = asker.ask("and again", conversation_id=first["conversation_id"])
    asked = ("agent", "GET context")
    spans = asker.tree(trace, asked, _ANSWER, _STORED)
    of = _finder(spans)
    assert of(asked).parent == of(_ANSWER).id
    served = [span for span in spans if span.service == "logue-conversation" and span.kind == _SERVER]
    assert served
    assert {span.parent for span in served} == {of(asked).id}


def test_a_model_that_fails_is_seen_in_the_trace(asker: Asker, stack: Stack, traces: Collector) -> None:
    trace, caller = secrets.token_hex(16), secrets.token_hex(8)
    headers = {"Authorization": f"Bearer {stack.token('user-1')}", "traceparent": f"00-{trace}-{caller}-01"}
    url = f"{stack.gateway_urls[0]}/api/user-1/chat"
    answer = httpx.post(url, json={"message": "hello {{fail=400}}"}, headers=headers, timeout=30.0)
    assert answer.status_code == 502, answer.text
    model = _finder(asker.tree(trace, _MODEL))(_MODEL)
    assert model.failed
    assert model.attributes["error.type"] == "model_error"


def test_nothing_is_recorded_of_a_trace_that_its_caller_does_not_record(asker: Asker, traces: Collector) -> None:
    unsampled, _, _ = asker.ask("hello", sampled=False)
    later, _, _ = asker.ask("hello")
    asker.tree(later, _CHAT, _MODEL, _STORED)
    assert traces.of(unsampled) == []


def test_no_span_carries_what_was_said(asker: Asker, traces: Collector) -> None:
    secret = f"word-{secrets.token_hex(8)}"
    trace, _, _ = asker.ask(f"hello {secret}")
    spans = asker.tree(trace, _CHAT, _MODEL, _STORED)
    assert not any(secret in str(span.attributes) for span in spans)


def _finder(spans: list[Span]) -> Callable[[tuple[str, str]], Span]:
    def of(title: tuple[str, str]) -> Span:
        found = [span for span in spans if span.title == title]
        assert len(found) == 1, f"{title}: {len(found)} of {sorted(span.title for span in spans)}"
        return found[0]

    return of
