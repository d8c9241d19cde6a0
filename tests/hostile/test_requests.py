"""Headers, bodies, queries, and what clients bring back: valid, or the problem that API.md names."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.requests import Request
from tests.hostile.evil import BYTES, CONVERSATION, SECRET, TURN, attempt, changed

from logue_common.errors import ProblemError
from logue_common.ids import is_id
from logue_conversation.api import bodies
from logue_conversation.cursors import read_conversation_cursor, read_message_cursor
from logue_gateway.api.conversations import _query
from logue_gateway.api.requests import MAX_WAIT_SECONDS, idempotency_key, preferred_wait, read_body, wants_events
from logue_gateway.api.schemas import ChatBody, ConversationBody, ConversationPatch
from logue_gateway.auth import Principal
from logue_gateway.authenticator import _bearer
from logue_gateway.errors import AuthenticationError
from logue_gateway.middleware import require_owner
from logue_gateway.streams.event_ids import EventId, EventIds


def request(body: bytes = b"", query: bytes = b"", **headers: str) -> Request:
    sent = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return messages.pop(0)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": sent, "query_string": query}
    return Request(scope, receive)


LATIN = st.text(st.characters(max_codepoint=255), max_size=60)


@given(
    LATIN | st.sampled_from(["wait=", "wait=\xb2", "wait==1", 'wait="9', ",,;;==", "respond-async;;", "wait=1,wait=x"])
)
def test_headers_are_read_or_refused(value: str) -> None:
    assert 0 <= preferred_wait(request(prefer=value), 30) <= MAX_WAIT_SECONDS
    assert wants_events(request(accept=value)) in {True, False}
    key, error = attempt(lambda: idempotency_key(request(idempotency_key=value)), ProblemError)
    assert key == value if error is None else error.status == 422
    token, error = attempt(lambda: _bearer(Headers({"authorization": value})), AuthenticationError)
    assert str(token) in value if error is None else error.status == 401


_BODIES = [
    b'{"message": "hi", "conversation_id": null, "stream": false, "metadata": {"a": [1.5e3, null, "\\u00e9"]}}',
    b'{"title": "t", "archived": true, "metadata": {}}',
]


@given(st.sampled_from([ChatBody, ConversationBody, ConversationPatch]), BYTES | changed(_BODIES))
@example(ChatBody, b'{"message": "x", "metadata": {"a": ' + b"9" * 400 + b"}}")
@example(ChatBody, b'{"message": "\\ud83d"}')
@example(ConversationBody, b'{"metadata": ' + b'{"a":' * 500 + b"1" + b"}" * 501)
def test_a_body_is_valid_or_a_problem(model: Any, body: bytes) -> None:
    sent = request(body, content_type="application/json")
    found, error = attempt(lambda: asyncio.run(read_body(sent, model)), ProblemError)
    if found is not None:
        assert orjson.dumps(found.model_dump()), "what was accepted can be passed on"
    else:
        assert error.status == 400 or (error.status == 422 and error.problem.errors)


@given(st.sampled_from([bodies.NewConversation, bodies.ConversationPatch]), BYTES | changed(_BODIES))
def test_an_internal_body_is_valid_or_a_problem(model: Any, body: bytes) -> None:
    """The conversation service does not rely on the gateway's checks."""
    found, error = attempt(lambda: asyncio.run(bodies.read_body(request(body), model)), ProblemError)
    assert found is not None or (error.status == 422 and error.problem.errors)


@given(
    st.binary(max_size=80) | st.sampled_from([b"limit=\xb2", b"limit=%D9%A1", b"cursor=%00", b"leaf=%ff", b"a&&=&;"])
)
def test_a_query_is_known_or_a_problem(query: bytes) -> None:
    names = ("limit", "cursor", "order", "after_turn", "leaf")
    found, error = attempt(lambda: _query(request(query=query), *names), ProblemError)
    assert error.status == 422 if found is None else 1 <= int(found.get("limit", "1")) <= 100


@given(st.text(max_size=40), st.sampled_from(["ann", "bob", "a/b", "", "."]))
def test_no_path_belongs_to_two_users(path: str, user: str) -> None:
    _, error = attempt(lambda: require_owner("/api/" + path, Principal(user, 0)), ProblemError)
    assert (error is None) == (path.partition("/")[0] == user)


IDS = EventIds(SECRET).of("ann", TURN)
_EVENT_IDS = [IDS.format(EventId(3, 12345, 2, 7, is_end=end)) for end in (False, True)]


@given((BYTES | changed(_EVENT_IDS)).map(lambda raw: raw.decode("latin-1")))
def test_an_event_id_is_of_this_turn_or_400(text: str) -> None:
    found, error = attempt(lambda: IDS.parse(text), ProblemError)
    if found is None:
        assert error.status == 400
    else:
        assert text.endswith(IDS.mac.decode()), "nobody else makes ids of this turn"
        assert found.partition < 10**6
        assert found.offset < 10**18


def _cursor(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


_CURSORS = [b'["c","2026-01-01T00:00:00+00:00","%b"]' % CONVERSATION.encode(), b'["m",7,1]']


@given((BYTES | changed(_CURSORS)).map(_cursor) | st.text(max_size=60))
@example(_cursor(b'["c","0001-01-01T00:00:00+23:59","%b"]' % CONVERSATION.encode()))
@example(_cursor(b'["c","9999-12-31T23:59:59-23:59","%b"]' % CONVERSATION.encode()))
@example(_cursor(b'["m",9223372036854775808,0]'))
def test_a_cursor_is_a_place_or_a_problem(cursor: str) -> None:
    conversation, error = attempt(lambda: read_conversation_cursor(cursor), ProblemError)
    if conversation is not None:
        assert is_id(conversation[1])
        assert conversation[0].utcoffset() is not None
    else:
        assert (error.status, error.problem.errors is not None) == (422, True)
    message, error = attempt(lambda: read_message_cursor(cursor), ProblemError)
    if message is not None:
        assert 0 <= message[0] < 2**63
        assert message[1] in {0, 1}
    else:
        assert (error.status, error.problem.errors is not None) == (422, True)
