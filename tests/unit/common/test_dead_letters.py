"""Dead letters while chat.dlq can be written, and while it cannot."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from logue_common import dead_letters, metrics
from logue_common.dead_letters import DeadLetters
from logue_common.events import Headers
from logue_common.producer import NotSentError


@dataclass
class Letter:
    offset: int
    value: bytes = b"poison"
    topic: str = "chat.requested"
    partition: int = 3
    key: bytes = b"key"
    headers: Headers = field(default_factory=lambda: [("ce_id", b"1")])


@dataclass
class Topic:
    """chat.dlq, behind the port of the producer."""

    full: bool = False
    records: list[dict[str, Any]] = field(default_factory=list)
    attempts: int = 0

    def start(self) -> None: ...

    async def close(self) -> None: ...

    async def send(self, topic: str, **record: Any) -> None:
        assert topic == "chat.dlq"
        self.attempts += 1
        if self.full:
            raise NotSentError("full")
        self.records.append(record)

    @property
    def offsets(self) -> list[int]:
        return [int(dict(record["headers"])["original_offset"]) for record in self.records]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(dead_letters, "_CLOSE_SECONDS", 0.2)


def _letters(topic: Topic) -> DeadLetters:
    return DeadLetters(topic, consumer="agent")  # type: ignore[arg-type]


async def test_a_record_is_there_when_bury_returns() -> None:
    topic = Topic()
    await _letters(topic).bury(Letter(7), error_class="unreadable", text="no JSON")
    [record] = topic.records
    assert record["value"] == b"poison"
    assert record["key"] == "key"
    assert dict(record["headers"]) == {
        "original_topic": b"chat.requested",
        "original_partition": b"3",
        "original_offset": b"7",
        "error_class": b"unreadable",
        "error": b"no JSON",
        "consumer": b"agent",
        "ce_id": b"1",
    }


async def test_a_full_topic_holds_nobody_up_and_gets_everything_later_in_order() -> None:
    topic = Topic(full=True)
    letters = _letters(topic)
    async with asyncio.timeout(1):
        for offset in range(500):
            await letters.bury(Letter(offset), error_class="unreadable", text="")
    topic.full = False
    async with asyncio.timeout(1):
        while len(topic.records) < 500:
            await asyncio.sleep(0.01)
    assert topic.offsets == list(range(500))
    await letters.close()


async def test_what_has_no_room_is_named_and_counted() -> None:
    topic = Topic(full=True)
    letters = _letters(topic)
    before = metrics.DEAD_LETTERS_DROPPED._value.get()
    for offset in range(12):
        await letters.bury(Letter(offset, b"x" * (4 * 1024 * 1024 - 70_000)), error_class="unreadable", text="")
    dropped = metrics.DEAD_LETTERS_DROPPED._value.get() - before
    assert 3 <= dropped <= 5, "of 12 records of nearly 4 MiB, 32 MiB may wait"
    topic.full = False
    await letters.close()
    assert topic.offsets == list(range(12 - int(dropped))), "closing writes what waits"


async def test_closing_does_not_wait_for_a_topic_that_stays_full() -> None:
    letters = _letters(Topic(full=True))
    await letters.bury(Letter(1), error_class="unreadable", text="")
    async with asyncio.timeout(2):
        await letters.close()
