"""Streams at a pace: how late each token is, by the clock of who asked.

A reply of the model server has its first token `ttft` after the question arrived and the others `gap` apart, so token n
is due at a known time. What it is late by is what the service, the broker and the network added; pauses of this process
and of the model server count against the service.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from tests.bench.measure import quantile
from tests.bench.model_server import Script
from tests.bench.wire import Exchange

_DELTA = re.compile(rb'"delta":"([^"]*)"')


def directive(script: Script) -> str:
    """What to tell the model."""
    return f"{{{{ttft={script.ttft:g} gap={script.gap:g} tokens={script.tokens}}}}} Tell me more."


@dataclass(slots=True)
class Lateness:
    """Of every token of many replies, in milliseconds."""

    script: Script
    tokens_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    #: Milliseconds that a reply ended after its last token was due.
    end_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def watch(self, exchange: Exchange) -> None:
        """Note when the tokens of `exchange` come."""
        said = 0

        def on_data(data: bytes) -> None:
            nonlocal said
            now = time.perf_counter()
            for text in _DELTA.findall(data):
                tokens = text.count(b"w")
                if tokens:
                    due = exchange.sent_at + self.script.ttft + (said + tokens - 1) * self.script.gap
                    late = (now - due) * 1000
                    self.tokens_ms.append(late)
                    if not said:
                        self.first_ms.append(late)
                    said += tokens

        exchange.on_data = on_data

    def ended(self, exchange: Exchange) -> None:
        """Take the whole reply."""
        if not exchange.is_answered:
            self.errors.append(exchange.failure)
            return
        due = exchange.sent_at + self.script.ttft + (self.script.tokens - 1) * self.script.gap
        self.end_ms.append((exchange.ended_at - due) * 1000)

    def report(self) -> dict[str, object]:
        """In a form for JSON."""
        found: dict[str, object] = {
            name: {f"p{p}": round(quantile(values, p / 100), 1) for p in (50, 95, 99)}
            for name, values in (("first", self.first_ms), ("token", self.tokens_ms), ("end", self.end_ms))
        }
        return {"replies": len(self.end_ms), "errors": len(self.errors), "late_ms": found, "examples": self.errors[:3]}
