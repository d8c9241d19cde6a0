"""Texts come back exactly as they were sent."""

from __future__ import annotations

import asyncio

from tests.e2e.client import Client
from tests.e2e.texts import ECHO, MAX_CHARACTERS, TEXTS

_AT_ONCE = 10


async def test_a_hundred_messages_come_back_exactly_as_sent(client: Client) -> None:
    """In the events, in the reply, and in the list, as question and as answer."""
    places = asyncio.Semaphore(_AT_ONCE)
    assert max(len(ECHO + text) for text in TEXTS) == MAX_CHARACTERS

    async def check(text: str) -> None:
        async with places:
            shown = await client.read(ECHO + text)
            assert shown.ending is not None
            assert shown.ending.name == "message.completed", shown.ending.data
            reply = shown.ending.data
            assert shown.text == text
            assert reply["message"]["content"] == text
            await client.ended(reply["turn_id"])  # a writer that was killed needs longer than `after_turn` waits
            stored = await client.messages(reply["conversation_id"], after_turn=reply["turn_id"])
            assert [message["content"] for message in stored] == [ECHO + text, text]

    async with asyncio.TaskGroup() as group:
        for text in TEXTS:
            group.create_task(check(text))


async def test_json_answers_carry_any_text(client: Client) -> None:
    replies = await asyncio.gather(*(client.chat(ECHO + text) for text in TEXTS[::9]))
    assert [reply["message"]["content"] for reply in replies] == TEXTS[::9]
