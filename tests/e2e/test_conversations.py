"""Conversations: made, listed, changed, deleted, and read back right after a turn."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

from tests.e2e.client import Client
from tests.e2e.world import World


async def _create(client: Client, **body: Any) -> dict[str, Any]:
    answer = await client.request("POST", "conversations", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def _listed(client: Client, limit: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": limit}
    while True:
        page = await client.get("conversations", params=query)
        assert len(page["items"]) <= limit
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        query["cursor"] = page["next_cursor"]


async def test_a_conversation_is_made_changed_and_read(client: Client) -> None:
    made = await _create(client, title="Plans", metadata={"colour": "blue", "n": [1, None]})
    assert (made["title"], made["archived"], made["metadata"]) == ("Plans", False, {"colour": "blue", "n": [1, None]})
    assert await client.get(f"conversations/{made['id']}") == made
    patched = (await client.request("PATCH", f"conversations/{made['id']}", json={"archived": True})).json()
    assert (patched["title"], patched["archived"], patched["metadata"]) == ("Plans", True, made["metadata"])
    title = "Zoë\x00’s 計画 🗺️\u2028"
    answer = await client.request("PATCH", f"conversations/{made['id']}", json={"title": title, "metadata": {}})
    assert answer.status_code == 200
    found = await client.get(f"conversations/{made['id']}")
    assert (found["title"], found["archived"], found["metadata"]) == (title, True, {})
    assert found["created_at"] == made["created_at"]
    assert found["updated_at"] > made["updated_at"]


async def test_an_empty_conversation_can_be_talked_in(client: Client) -> None:
    made = await _create(client)
    assert await client.messages(made["id"]) == []
    reply = await client.chat("first words", conversation_id=made["id"])
    assert reply["conversation_id"] == made["id"]
    assert len(await client.messages(made["id"], after_turn=reply["turn_id"])) == 2


async def test_lists_are_newest_first_and_page_without_gaps_or_doubles(client: Client) -> None:
    made = [(await _create(client, title=f"number {n}"))["id"] for n in range(7)]
    for limit in (1, 3, 7, 100):
        listed = [item["id"] for item in await _listed(client, limit)]
        assert len(listed) == len(set(listed))
        assert [found for found in listed if found in made] == made[::-1]
    assert len((await client.get("conversations"))["items"]) >= 7


async def test_a_cursor_stays_true_while_conversations_go_on(client: Client) -> None:
    made = [(await _create(client))["id"] for _ in range(4)]
    page = await client.get("conversations", params={"limit": 2})
    await client.chat("an old one moves", conversation_id=made[0])
    newer = await _create(client)
    rest = await client.get("conversations", params={"limit": 100, "cursor": page["next_cursor"]})
    seen = [item["id"] for item in [*page["items"], *rest["items"]]]
    assert [found for found in seen if found in made] == made[::-1]
    assert newer["id"] not in seen


async def test_messages_are_listed_in_pages_in_either_order(client: Client) -> None:
    conversation, turn = None, ""
    for n in range(4):
        reply = await client.chat(f"{{{{echo}}}} {n}", conversation_id=conversation)
        conversation, turn = reply["conversation_id"], reply["turn_id"]
    expected = [text for n in range(4) for text in (f"{{{{echo}}}} {n}", str(n))]
    await client.messages(str(conversation), after_turn=turn)
    for limit in (1, 3, 8):
        listed = await client.messages(str(conversation), limit=limit)
        assert [message["content"] for message in listed] == expected
        listed = await client.messages(str(conversation), limit=limit, order="desc")
        assert [message["content"] for message in listed] == expected[::-1]


async def test_a_client_reads_what_it_wrote(client: Client) -> None:
    """Every time, at any gateway: `after_turn` waits for the writer."""
    conversation = None
    for n in range(1, 11):
        reply = await client.chat(f"turn {n}", conversation_id=conversation)
        conversation = reply["conversation_id"]
        listed = await client.messages(conversation, after_turn=reply["turn_id"])
        assert len(listed) == 2 * n
        assert listed[-1]["content"] == reply["message"]["content"]


async def test_a_deleted_conversation_is_gone_for_every_gateway(client: Client) -> None:
    reply = await client.chat("soon gone")
    conversation, turn = reply["conversation_id"], reply["turn_id"]
    kept = (await client.chat("stays"))["conversation_id"]
    await asyncio.gather(*(client.chat("known", conversation_id=conversation) for _ in client.gateways()))
    await delete(client, conversation)
    await assert_gone(client, conversation, turn)
    assert [item["id"] for item in await _listed(client, 100)] == [kept]


async def test_a_conversation_deleted_in_mid_turn_ends_the_turn(client: Client, world: World) -> None:
    stream = client.stream(f"{{{{tokens=5000 gap=0.05}}}} {uuid4().hex}")
    await stream.until(deltas=3)
    assert stream.turn_id is not None
    conversation = (await client.get(f"turns/{stream.turn_id}"))["conversation_id"]
    unheard = f"never heard {uuid4().hex}"
    waiting = await client.ask(unheard, conversation_id=conversation)
    watching = asyncio.create_task(client.resume(stream.turn_id, stream.shown).to_end())
    await delete(client, conversation)
    shown = await watching
    assert shown.ending is not None
    assert shown.ending.name in {"turn.cancelled", "turn.failed"}
    for turn in (stream.turn_id, waiting["turn_id"]):
        await assert_gone(client, conversation, turn)
    assert world.model_calls(unheard) == 0


async def delete(client: Client, conversation: str) -> None:
    """Deletes; a retry may find it gone."""
    before = client.retries
    answer = await client.request("DELETE", f"conversations/{conversation}")
    assert answer.status_code == 204 or (answer.status_code == 404 and client.retries > before), answer.text


async def assert_gone(client: Client, conversation: str, turn: str) -> None:
    """Every way to it ends in a 404, at every gateway."""
    for gateway in client.gateways():
        for method, path, body in (
            ("GET", f"conversations/{conversation}", None),
            ("GET", f"conversations/{conversation}/messages", None),
            ("PATCH", f"conversations/{conversation}", {"title": "back"}),
            ("DELETE", f"conversations/{conversation}", None),
            ("GET", f"turns/{turn}", None),
            ("POST", "chat", {"message": "anyone there?", "conversation_id": conversation}),
        ):
            answer = await client.request(method, path, json=body, gateway=gateway)
            assert answer.status_code == 404, f"{method} {path} at {gateway}: {answer.status_code} {answer.text}"
