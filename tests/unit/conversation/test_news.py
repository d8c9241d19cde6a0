"""Who waits for a conversation is told when something of it was stored, and nobody else."""

from __future__ import annotations

import asyncio

from logue_conversation.news import News


async def test_a_reader_goes_on_when_something_of_its_conversation_is_stored() -> None:
    news = News()
    waiting = [asyncio.create_task(news.wait_stored("a", 30)) for _ in range(2)]
    other = asyncio.create_task(news.wait_stored("b", 30))
    await asyncio.sleep(0)
    assert news.awaited.is_set()
    news.stored({"a", "c"})
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert not other.done()
    news.stored({"b"})
    await asyncio.wait_for(other, 5)
    assert not news._waiting


async def test_a_reader_looks_again_when_another_process_may_have_stored_it() -> None:
    news = News()
    await asyncio.wait_for(news.wait_stored("a", 0.01), 5)
    assert not news._waiting


async def test_one_that_gave_up_takes_the_news_from_nobody() -> None:
    news = News()
    patient = asyncio.create_task(news.wait_stored("a", 30))
    await asyncio.sleep(0)
    await news.wait_stored("a", 0.01)
    news.stored({"a"})
    await asyncio.wait_for(patient, 5)
