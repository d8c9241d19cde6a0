"""The end of a run: wait until nothing of a user is under way, and read back everything that there is."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.chaos.client import Client
from tests.chaos.facts import Turn
from tests.chaos.history import TERMINAL, GaveUp
from tests.e2e.sse import ENDS

_POLL_SECONDS = 0.2
#: Of every user, so many turns are shown once more from their beginning.
_SHOWN_AGAIN = 3


async def settle_user(client: Client, turns: list[Turn]) -> None:
    """Reads back conversations, messages, turns, and some streams of one user, who has these turns as far as known."""
    known = {turn.conversation_id for turn in turns if turn.conversation_id is not None}
    found = await _lists(client, known, final=False)
    ids = {ack.turn_id for turn in turns for ack in turn.acks if ack.turn_id} | found
    await asyncio.gather(*(_wait(client, turn_id) for turn_id in ids))
    ids |= await _lists(client, known, final=True)
    for turn_id in ids:
        await client.turn(turn_id, final=True)
    await _show_again(client, [turn for turn in turns if turn.acks])


async def _lists(client: Client, known: set[str], *, final: bool) -> set[str]:
    """Reads all lists, in pages of any size; the ids of the turns in them."""
    conversations = {item["id"] for item in await _pages(client, "conversations", "conversations", client.user, final)}
    turn_ids = set()
    for conversation_id in sorted(known | conversations):
        path = f"conversations/{conversation_id}/messages"
        turn_ids |= {item["turn_id"] for item in await _pages(client, path, "messages", conversation_id, final)}
    return turn_ids


async def _pages(client: Client, path: str, what: str, subject: str, final: bool) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    query = {"limit": str(client.choice.choice((3, 10, 100)))}
    while True:
        page = await client.call("GET", path, what, subject, final=final, params=query)
        if page is None or page.status != 200:
            return items
        items += page.body["items"]
        if page.body["next_cursor"] is None:
            return items
        query["cursor"] = page.body["next_cursor"]


async def _wait(client: Client, turn_id: str) -> None:
    """Until the turn is over."""
    began = client.history.now()
    while (turn := await client.turn(turn_id)) is not None and turn["status"] not in TERMINAL:
        if client.history.now() - began > client.give_up_seconds:
            client.history.add(GaveUp(client.user, "settle", turn_id, began, client.history.now()))
            return
        await asyncio.sleep(_POLL_SECONDS)


async def _show_again(client: Client, turns: list[Turn]) -> None:
    """Some turns from their beginning, and what comes after the end of some that were shown."""
    for turn in client.choice.sample(turns, min(_SHOWN_AGAIN, len(turns))):
        await client.follow(client.view(turn.ask, turn.id))
    shown = [view for turn in turns for view in turn.views if view.end is not None and view.end.name in ENDS]
    for view in client.choice.sample(shown, min(_SHOWN_AGAIN, len(shown))):
        if view.end is not None and view.turn_id is not None:
            path, headers = f"turns/{view.turn_id}/events", {"Last-Event-ID": view.end.id}
            await client.call("GET", path, "resume", view.turn_id, headers=headers)
