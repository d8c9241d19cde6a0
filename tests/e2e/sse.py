"""Server-sent events as a browser reads them, and the text that a client shows from a turn's events (API.md)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

ENDS = frozenset({"message.completed", "turn.failed", "turn.cancelled"})


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `name` is "" for a block that only carries `retry`."""

    name: str
    id: str
    data: Any
    retry: str | None = None


async def parse(chunks: AsyncIterable[bytes]) -> AsyncIterator[Event]:
    """Events from the bytes of a response. Lines end at LF only: U+2028 and U+0085 are text like any other."""
    buffer = b""
    async for chunk in chunks:
        *blocks, buffer = (buffer + chunk).split(b"\n\n")
        for block in blocks:
            if (event := _event(block.decode())) is not None:
                yield event


def _event(block: str) -> Event | None:
    fields: dict[str, str] = {}
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        if name:  # otherwise a comment
            assert name not in fields, f"one line of each kind, not {block!r}"
            fields[name] = value.removeprefix(" ")
    if not fields:
        return None
    data = json.loads(fields["data"]) if "data" in fields else None
    return Event(fields.get("event", ""), fields.get("id", ""), data, fields.get("retry"))


@dataclass(slots=True)
class Shown:
    """What a client shows of one turn, event by event, over any number of connections."""

    text: str = ""
    started: dict[str, Any] | None = None
    ending: Event | None = None
    last_id: str = ""
    events: list[Event] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Show one more event. Raises AssertionError for what API.md rules out."""
        assert self.ending is None, f"{event} after the end"
        assert event.id, f"{event} has no id"
        match event.name:
            case "turn.started":
                assert not self.events, "turn.started is sent once, and first"
                self.started = event.data
            case "message.delta":
                self.text += event.data["delta"]
            case "message.reset":
                self.text = ""
            case "message.snapshot":
                self.text = event.data["content"]
            case name if name in ENDS:
                self.ending = event
            case name:
                assert name == "turn.queued", f"unknown event {name}"
        self.last_id = event.id
        self.events.append(event)

    def until_now(self) -> Shown:
        """A copy that goes its own way."""
        return Shown(self.text, self.started, self.ending, self.last_id, list(self.events))

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]
