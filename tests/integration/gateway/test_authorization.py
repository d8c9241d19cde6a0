"""Whose is it? A matrix of two users over every route with an id, and of paths that are not routed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.integration.gateway.rig import FakeAgent, FakeStore, Gateway, bearer, events_of, token

from logue_common.ids import new_id
from logue_gateway.streams.event_ids import EventIds

ROUTES = [
    ("GET", "turns/{turn}", None),
    ("GET", "turns/{turn}/events", None),
    ("POST", "turns/{turn}/cancel", None),
    ("GET", "conversations/{conversation}", None),
    ("PATCH", "conversations/{conversation}", {"title": "mine now"}),
    ("DELETE", "conversations/{conversation}", None),
    ("GET", "conversations/{conversation}/messages", None),
    ("POST", "chat", {"message": "hi", "conversation_id": "{conversation}"}),
    ("POST", "chat", {"message": "hi", "conversation_id": "{conversation}", "stream": True}),
]


@pytest.fixture
async def anns(gateway: Gateway, agent: FakeAgent, store: FakeStore) -> dict[str, str]:
    """A live turn and a conversation of ann's, both known to this gateway's memory and to the store."""
    asked = await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers={"Prefer": "respond-async"})
    turn = await agent.turn()
    conversation = asked.json()["conversation_id"]
    store.turns["ann", turn.request.turn_id] = turn.stored("in_progress")
    store.conversations["ann", conversation] = {"id": conversation}
    return {"turn": turn.request.turn_id, "conversation": conversation}


async def _ask(
    gateway: Gateway, method: str, path: str, body: Any, ids: dict[str, str], headers: dict[str, str]
) -> tuple[int, Any]:
    body = {k: v.format(**ids) if isinstance(v, str) else v for k, v in body.items()} if body else None
    answer = await gateway.client.request(method, path.format(**ids), json=body, headers=headers)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-correlation-id"] == problem.pop("correlation_id")
    return answer.status_code, problem


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_what_is_anns_does_not_exist_for_bob(
    gateway: Gateway, anns: dict[str, str], method: str, path: str, body: Any
) -> None:
    absent = {name: new_id() for name in anns}
    foreign = await _ask(gateway, method, f"/api/bob/{path}", body, anns, bearer("bob"))
    nothing = await _ask(gateway, method, f"/api/bob/{path}", body, absent, bearer("bob"))
    assert foreign == nothing
    assert foreign[0] == 404
    crossed = await _ask(gateway, method, f"/api/ann/{path}", body, anns, bearer("bob"))
    crossed_nothing = await _ask(gateway, method, f"/api/ann/{path}", body, absent, bearer("bob"))
    assert crossed == crossed_nothing
    assert crossed[0] == 403


async def test_anns_event_id_is_worth_nothing_to_bob(gateway: Gateway, anns: dict[str, str]) -> None:
    ids: EventIds = gateway.resources.event_ids
    anns_id = f"0.0.1.1.{ids.of('ann', anns['turn']).mac.decode()}"
    for turn in (anns["turn"], new_id()):
        path = f"/api/bob/turns/{turn}/events"
        answer = await gateway.client.get(path, headers={**bearer("bob"), "Last-Event-ID": anns_id})
        assert answer.status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/api/ann/nowhere",
        "/api/ann",
        "/api/ann/",
        "/api//ann/chat",
        "/api/",
        "/api/%61nn/chat",
        "/%61pi/ann/chat",
        "/api/ann%2Fconversations",
        "/api/ANN/conversations",
        "/api/ann/conversations/",
        "/api/ann;x/conversations",
    ],
)
async def test_another_users_token_gets_403_on_any_path(gateway: Gateway, path: str) -> None:
    answer = await gateway.client.get(path, headers=bearer("bob"))
    assert answer.status_code == 403, answer.text
    assert answer.json()["code"] == "forbidden"
    answer = await gateway.client.get(path, headers={"Authorization": ""})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["code"] == "unauthorized"


async def test_an_encoded_slash_does_not_make_one_user_another(gateway: Gateway, store: FakeStore) -> None:
    """The router sees /api/ann/conversations; the token's user is called `ann/conversations`."""
    answer = await gateway.client.get("/api/ann%2Fconversations", headers=bearer("ann/conversations"))
    assert answer.status_code == 403
    assert store.calls == []


async def test_unicode_user_ids_work_when_encoded(gateway: Gateway, store: FakeStore) -> None:
    user = "zoë?#%40 ü"
    answer = await gateway.client.get("/api/zo%C3%AB%3F%23%2540%20%C3%BC/conversations", headers=bearer(user))
    assert answer.status_code == 200
    assert store.calls == [("GET", f"/internal/users/{user}/conversations")]


async def test_errors_of_the_router_have_the_same_shape(gateway: Gateway) -> None:
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("GET", "/api/ann/nowhere", 404),
        ("PUT", "/healthz", 405),
        ("GET", "/api/ann/chat", 405),
    ):
        answer = await gateway.client.request(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["correlation_id"] == answer.headers["x-correlation-id"]


async def test_a_stream_ends_when_its_token_does(gateway: Gateway, agent: FakeAgent) -> None:
    headers = {"Authorization": f"Bearer {token(lives_seconds=1.5)}"}
    async with gateway.chat("hi", headers=headers) as response:
        turn = await agent.turn()
        await turn.delta("one")
        async with asyncio.timeout(5):
            events = [event.event async for event in events_of(response)]
    assert events == ["turn.started", "message.delta"]


async def test_cors_answers_the_allow_list_only(kafka: str, store: FakeStore) -> None:
    async with Gateway(kafka, store.url, cors_origins="https://chat.example") as gateway:
        for origin, allowed in (("https://chat.example", True), ("https://evil.example", False)):
            headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            answer = await gateway.client.request("OPTIONS", "/api/ann/chat", headers=headers)
            assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
            answer = await gateway.client.get("/healthz", headers={"Origin": origin})
            assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
