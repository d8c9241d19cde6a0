"""The rest of the public API: conversations pass through, bad input changes nothing, operations answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.integration.gateway.rig import FakeAgent, FakeStore, Gateway, token

from logue_common.ids import new_id

ABSENT = new_id()


async def test_conversations_pass_through(gateway: Gateway, store: FakeStore) -> None:
    client = gateway.client
    created = await client.post("/api/ann/conversations", json={"title": "Ünï"})
    assert (created.status_code, created.json()["title"]) == (201, "Ünï")
    path = f"/api/ann/conversations/{created.json()['id']}"
    assert (await client.get(path)).json() == created.json()
    assert (await client.patch(path, json={"archived": True, "title": None})).status_code == 200
    assert json.loads(store.bodies[-1]) == {"archived": True, "title": None}
    assert (await client.get(f"{path}/messages?limit=5&order=desc&after_turn={new_id()}")).status_code == 200
    assert (await client.get("/api/ann/conversations?limit=100&cursor=a%2Bb%3D")).json()["items"] == []
    deleted = await client.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert ("ann", created.json()["id"]) not in gateway.resources.owned


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_what_was_deleted_through_another_gateway_is_forgotten_with_the_first_404(
    gateway: Gateway, method: str
) -> None:
    unknown = new_id()
    gateway.resources.owned.add("ann", unknown)
    body = {"json": {"title": "x"}} if method == "PATCH" else {}
    answer = await gateway.client.request(method, f"/api/ann/conversations/{unknown}", **body)
    assert (answer.status_code, answer.json()["code"]) == (404, "conversation_not_found")
    assert ("ann", unknown) not in gateway.resources.owned


async def test_a_turn_shows_its_public_fields_only(gateway: Gateway, agent: FakeAgent, store: FakeStore) -> None:
    await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers={"Prefer": "respond-async"})
    turn = await agent.turn()
    turn.text = "yes"
    store.turns["ann", turn.request.turn_id] = turn.stored()
    answer = await gateway.client.get(f"/api/ann/turns/{turn.request.turn_id}")
    assert set(answer.json()) == {
        "turn_id",
        "conversation_id",
        "status",
        "attempt",
        "requested_at",
        "started_at",
        "first_token_at",
        "finished_at",
        "message",
        "usage",
        "error",
    }
    assert answer.headers["x-correlation-id"] == turn.request.turn_id


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("GET", "conversations?limit=0", {}, 422),
        ("GET", "conversations?limit=101", {}, 422),
        ("GET", "conversations?limit=x", {}, 422),
        ("GET", "conversations?limit=1&limit=2", {}, 422),
        ("GET", "conversations?surprise=1", {}, 422),
        ("GET", "conversations?cursor=", {}, 422),
        ("GET", f"conversations/{ABSENT}/messages?order=up", {}, 422),
        ("GET", f"conversations/{ABSENT}/messages?after_turn=x", {}, 422),
        ("GET", f"conversations/{ABSENT}/messages?leaf=x", {}, 422),
        ("GET", "conversations/not-an-id", {}, 404),
        ("GET", f"conversations/{ABSENT.upper()}", {}, 404),
        ("GET", "turns/not-an-id", {}, 404),
        ("GET", "turns/not-an-id/events", {}, 404),
        ("POST", "turns/not-an-id/cancel", {}, 404),
        ("POST", "conversations", {"json": {"titel": "x"}}, 422),
        ("POST", "conversations", {"json": {"title": "x" * 201}}, 422),
        ("POST", "conversations", {"content": b"{"}, 415),
        ("POST", "conversations", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ("PATCH", f"conversations/{ABSENT}", {"json": {"archived": "yes"}}, 422),
        ("POST", "chat", {"json": {"message": " "}}, 422),
        ("POST", "chat", {"json": {"message": "x" * 1024 * 1024}}, 413),
        ("POST", "chat", {"json": {"message": "x"}, "headers": {"Idempotency-Key": "a b"}}, 422),
    ],
)
async def test_bad_input_is_a_problem_and_changes_nothing(
    gateway: Gateway, agent: FakeAgent, store: FakeStore, method: str, path: str, sent: dict[str, Any], status: int
) -> None:
    answer = await gateway.client.request(method, f"/api/ann/{path}", **sent)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "detail", "code", "retryable", "correlation_id"} <= set(problem)
    assert problem["status"] == status
    assert (status == 422) == bool(problem.get("errors"))
    assert store.calls == []
    assert agent.requests.empty()


async def test_a_chunked_body_is_bounded_too(gateway: Gateway) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 65536

    headers = {"Content-Type": "application/json"}
    answer = await gateway.client.post("/api/ann/chat", content=endless(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


async def test_a_defect_of_ours_is_a_problem_too(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object, **__: object) -> None:
        raise RuntimeError("/etc/passwd")

    monkeypatch.setattr(gateway.resources.store, "turn_answer", defect)
    answer = await gateway.client.get(f"/api/ann/turns/{ABSENT}")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.json()["correlation_id"] == answer.headers["x-correlation-id"]
    assert "passwd" not in answer.text


async def test_what_the_store_cannot_do_is_503_without_its_words(gateway: Gateway, store: FakeStore) -> None:
    store.turns["ann", ABSENT] = {"turn_id": 7}
    answer = await gateway.client.get(f"/api/ann/turns/{ABSENT}/events")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "127.0.0.1" not in answer.text


async def test_operations_and_documentation_need_no_token(gateway: Gateway) -> None:
    headers = {"Authorization": ""}
    assert (await gateway.client.get("/healthz", headers=headers)).json() == {"status": "ok"}
    ready = (await gateway.client.get("/readyz", headers=headers)).json()
    assert {name: found["ok"] for name, found in ready["dependencies"].items()} == {
        "kafka": True,
        "conversation": True,
        "keys": True,
    }
    assert b"logue_gateway_frames_total" in (await gateway.client.get("/metrics", headers=headers)).content
    assert (await gateway.client.get("/docs", headers=headers)).status_code == 200
    document = (await gateway.client.get("/openapi.json", headers=headers)).json()
    chat = document["paths"]["/api/{user_id}/chat"]["post"]
    assert "application/problem+json" in chat["responses"]["503"]["content"]
    assert chat["requestBody"]["content"]["application/json"]["schema"]["properties"]["on_busy"]
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    operations = {
        operation["operationId"]: operation for path in document["paths"].values() for operation in path.values()
    }
    linked = {
        link["operationId"]
        for operation in operations.values()
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    }
    assert {"get_turn", "get_events", "post_cancel"} <= linked <= operations.keys()


async def test_an_unused_or_foreign_dev_route_does_not_exist(gateway: Gateway) -> None:
    answer = await gateway.client.post("/dev/token", json={"user_id": "ann"}, headers={"Authorization": token()})
    assert answer.status_code == 404
