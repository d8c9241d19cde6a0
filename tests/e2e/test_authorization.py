"""Two users, and every route of /openapi.json with an id in it: what is Ann's does not exist for Bob."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.e2e.client import GIVE_UP_SECONDS, Client, NewClient

#: A body for each route that reads one; a new route must be added, or the matrix fails.
_BODIES: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("POST", "/api/{user_id}/chat"): [
        {"message": "hi", "conversation_id": "{conversation_id}"},
        {"message": "hi", "conversation_id": "{conversation_id}", "stream": True},
        {"message": "hi", "conversation_id": "{own_conversation_id}", "parent_id": "{message_id}"},
    ],
    ("POST", "/api/{user_id}/conversations"): [],
    ("PATCH", "/api/{user_id}/conversations/{conversation_id}"): [{"title": "mine now"}],
}
_METHODS = {"get", "put", "post", "patch", "delete"}


@pytest.fixture
async def routes(client: Client) -> list[tuple[str, str, dict[str, Any] | None]]:
    """(method, path, body) of everything under /api that names something."""
    found: list[tuple[str, str, dict[str, Any] | None]] = []
    paths = (await client.get("/openapi.json"))["paths"]
    for path, operations in paths.items():
        if not path.startswith("/api/{user_id}"):
            assert "{" not in path, f"{path} has an id, but no user"
            continue
        for method in _METHODS & operations.keys():
            bodies: list[Any] = [None]
            if "requestBody" in operations[method]:
                assert (method.upper(), path) in _BODIES, f"Say what to send to {method.upper()} {path}."
                bodies = _BODIES[method.upper(), path]
            found += [(method.upper(), path, body) for body in bodies if "{" in path[len("/api/{user_id}") :] or body]
    assert len(found) >= 10
    return found


async def _ask(client: Client, user: str, method: str, path: str, body: Any, ids: dict[str, str]) -> httpx.Response:
    missing = set(re.findall(r"\{(\w+)\}", path)) - {"user_id"} - ids.keys()
    assert not missing, f"The matrix has no {missing} of Ann's yet."
    content = None if body is None else {k: ids[v[1:-1]] if str(v)[:1] == "{" else v for k, v in body.items()}
    return await client.request(method, path.format(user_id=user, **ids), json=content)


def _problem(answer: httpx.Response) -> tuple[int, dict[str, Any], dict[str, str]]:
    """What tells answers apart: all but the correlation id, the date and the address of the thing itself."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert body.pop("correlation_id") == answer.headers["x-correlation-id"]
    body.pop("turn_id", None)
    headers = {k: v for k, v in answer.headers.items() if k not in {"x-correlation-id", "date", "content-length"}}
    return answer.status_code, body, headers


def _ending_of(answer: httpx.Response) -> tuple[int, Any, Any]:
    """As `_problem`, also of what is told in a stream: there the turn exists, and fails."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return _problem(answer)
    last = json.loads(answer.text.strip().rsplit("\ndata: ", 1)[1])
    return answer.status_code, last["code"], last["detail"]


async def test_what_is_anns_does_not_exist_for_bob(
    new_client: NewClient, routes: list[tuple[str, str, dict[str, Any] | None]]
) -> None:
    ann, bob = new_client(), new_client()
    done = await ann.chat("a secret of Ann's")
    live = await ann.ask("{{ttft=50}} endless", conversation_id=done["conversation_id"])
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while (await ann.get(f"turns/{live['turn_id']}"))["status"] == "queued":
            await asyncio.sleep(0.1)
    before = await ann.messages(done["conversation_id"], after_turn=done["turn_id"])
    own = {"own_conversation_id": (await bob.chat("mine"))["conversation_id"]}
    anns = {"conversation_id": done["conversation_id"], "message_id": done["message"]["id"]}
    for method, path, body in routes:
        for turn in (live["turn_id"], done["turn_id"]) if "{turn_id}" in path else (live["turn_id"],):
            ids = {**own, **anns, "turn_id": turn}
            absent = {**own, **{name: str(uuid4()) for name in (*anns, "turn_id")}}
            told = f"{method} {path} {body}"
            foreign = await _ask(bob, bob.user, method, path, body, ids)
            nothing = await _ask(bob, bob.user, method, path, body, absent)
            assert foreign.status_code == 404, f"{told}: {foreign.status_code} {foreign.text}"
            assert _ending_of(foreign) == _ending_of(nothing), told
            crossed = await _ask(bob, ann.user, method, path, body, ids)
            crossed_nothing = await _ask(bob, ann.user, method, path, body, absent)
            assert crossed.status_code == 403, told
            assert _problem(crossed) == _problem(crossed_nothing), told
    assert await ann.messages(done["conversation_id"]) == before
    assert (await ann.get(f"turns/{live['turn_id']}"))["status"] == "in_progress"
    await ann.cancel(live["turn_id"])
    assert (await ann.ended(live["turn_id"]))["status"] == "cancelled"


async def test_anns_event_ids_and_cursors_are_worth_nothing_to_bob(new_client: NewClient) -> None:
    ann, bob = new_client(), new_client()
    stream = ann.stream("hello")
    shown = await stream.to_end()
    await ann.chat("another")
    for turn in (stream.turn_id, str(uuid4())):
        for event in shown.events:
            answer = await bob.request("GET", f"turns/{turn}/events", headers={"Last-Event-ID": event.id})
            assert answer.status_code == 400
    cursor = (await ann.get("conversations", params={"limit": 1}))["next_cursor"]
    answer = await bob.request("GET", "conversations", params={"cursor": cursor})
    assert answer.status_code in {200, 422}
    assert answer.status_code != 200 or answer.json()["items"] == []


async def test_lists_show_only_ones_own(new_client: NewClient) -> None:
    ann, bob = new_client(), new_client()
    anns, bobs = await ann.chat("Ann's"), await bob.chat("Bob's")
    for client, own in ((ann, anns), (bob, bobs)):
        await client.ended(own["turn_id"])
        listed = (await client.get("conversations"))["items"]
        assert [item["id"] for item in listed] == [own["conversation_id"]]


@pytest.mark.parametrize("token", [None, "garbage", "a.b.c"])
async def test_without_a_token_there_is_nothing(
    client: Client, token: str | None, routes: list[tuple[str, str, dict[str, Any] | None]]
) -> None:
    for method, path, _ in [*routes, ("GET", "/api/{user_id}/nowhere", None)]:
        address = path.format(user_id=client.user, turn_id=uuid4(), conversation_id=uuid4())
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {"Authorization": ""}
        answer = await client.request(method, address, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")
