"""Cursors and event ids that a client changed: refused, or a place in its own data; never another user's."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.client import GIVE_UP_SECONDS, Client, NewClient
from tests.e2e.sse import parse

_PAGES = ("conversations", "conversations/{conversation}/messages")


def _flipped(text: str) -> Iterator[str]:
    """Every byte with a bit changed, every byte cut, every byte doubled."""
    for at, char in enumerate(text):
        yield text[:at] + chr(ord(char) ^ 1 << at % 7) + text[at + 1 :]
        yield text[:at] + text[at + 1 :]
        yield text[:at] + char + text[at:]


def _forged(cursor: str, foreign: str) -> Iterator[str]:
    """What someone writes who knows how cursors are made: they are not signed, since they open nothing."""
    parts = json.loads(base64.urlsafe_b64decode(cursor + "=="))
    values = [foreign, 0, -1, 1.5, 2**63 - 1, 2**63, True, None, "", "'; --", "\x00", [], {}, "9999-12-31T23:59:59Z"]
    for at in range(len(parts)):
        for value in values:
            yield (
                base64.urlsafe_b64encode(json.dumps([*parts[:at], value, *parts[at + 1 :]]).encode())
                .decode()
                .rstrip("=")
            )
    for other in ([], parts * 2, parts[:-1], [*parts, foreign], {"c": parts}, "c", None):
        yield base64.urlsafe_b64encode(json.dumps(other).encode()).decode().rstrip("=")


@pytest.mark.parametrize("page", _PAGES)
async def test_a_changed_cursor_shows_ones_own_items_or_nothing(new_client: NewClient, page: str) -> None:
    ann, bob = new_client(), new_client()
    anns = await ann.chat("{{tokens=1}} secret of Ann's")
    await ann.ended(anns["turn_id"])
    first = await bob.chat("{{tokens=1}} one")
    second = await bob.chat("{{tokens=1}} two", conversation_id=first["conversation_id"])
    third = await bob.chat("{{tokens=1}} three")
    for turn in (second, third):
        await bob.ended(turn["turn_id"])
    path = page.format(conversation=first["conversation_id"])
    own = {item["id"] for item in (await bob.get(path, params={"limit": 100}))["items"]}
    cursor = (await bob.get(path, params={"limit": 1}))["next_cursor"]
    for changed in [*_flipped(cursor), *_forged(cursor, anns["conversation_id"])]:
        answer = await bob.request("GET", path, params={"cursor": changed, "limit": 100})
        if answer.status_code == 200:
            assert {item["id"] for item in answer.json()["items"]} <= own, changed
        else:
            assert (answer.status_code, answer.json()["code"]) == (422, "validation_error"), changed
            assert answer.json()["errors"]


async def test_anns_cursor_is_a_place_in_bobs_own_list(new_client: NewClient) -> None:
    ann, bob = new_client(), new_client()
    for client in (ann, bob, ann, bob):
        await client.ended((await client.chat("{{tokens=1}} hi"))["turn_id"])
    cursor = (await ann.get("conversations", params={"limit": 1}))["next_cursor"]
    own = {item["id"] for item in (await bob.get("conversations"))["items"]}
    shown = (await bob.get("conversations", params={"cursor": cursor}))["items"]
    assert {item["id"] for item in shown} <= own


async def _events(client: Client, turn_id: str, event_id: str) -> tuple[int, list[Any]]:
    headers = {**client.headers, "Last-Event-ID": event_id}
    url = f"{client.pick()}/api/{client.user}/turns/{turn_id}/events"
    async with asyncio.timeout(GIVE_UP_SECONDS), client.http.stream("GET", url, headers=headers) as answer:
        if answer.status_code != 200:
            await answer.aread()
            return answer.status_code, []
        return 200, [event async for event in parse(answer.aiter_bytes()) if event.name]


async def test_every_changed_byte_of_an_event_id_is_noticed_or_harmless(client: Client) -> None:
    """The MAC proves whose turn it is; positions are the client's own business."""
    shown = await client.read("{{tokens=3}} hi")
    turn_id = shown.events[0].data["turn_id"]
    await client.ended(turn_id)
    event_id = shown.events[1].id
    mac = event_id.rpartition(".")[2]
    for changed in _flipped(event_id):
        if not changed.isprintable() or changed != changed.strip():
            continue  # no header at all: test_framing.py
        status, events = await _events(client, turn_id, changed)
        if changed.rpartition(".")[2] != mac:
            assert status == 400, changed
        else:
            assert status in {200, 204, 400}, changed
            assert all(event.data["turn_id"] == turn_id for event in events if event.name == "message.completed")


_POSITIONS = ("999999.0", "0.999999999999999999", "0.-1", "15.99999999", "0.0", "1.1")
_NUMBERS = ("0.0", "1.1", "999999999.999999999", "0.999999999")


async def test_invented_positions_cost_their_client_only(new_client: NewClient) -> None:
    """A valid MAC, positions that never were: the stream ends as its turn does, and others resume as usual."""
    liar, other = new_client(), new_client()
    shown = await liar.read("{{tokens=3}} hi")
    turn_id, text = shown.events[0].data["turn_id"], shown.text
    await liar.ended(turn_id)
    mac = shown.last_id.rpartition(".")[2]
    invented = [f"{position}.{number}.{mac}" for position in _POSITIONS for number in _NUMBERS]
    lies = [asyncio.create_task(_events(liar, turn_id, lie)) for lie in invented]
    stream = other.stream("{{tokens=10 gap=0.02}} hi")
    seen = await stream.until(3)
    resumed = await other.resume(str(stream.turn_id), seen).to_end()
    assert resumed.ending is not None
    assert resumed.ending.name == "message.completed"
    assert resumed.text == resumed.ending.data["message"]["content"]
    for lie, (status, events) in zip(invented, await asyncio.gather(*lies), strict=True):
        assert status == 200, lie
        assert events[-1].name == "message.completed", lie
        assert events[-1].data["message"]["content"] == text
