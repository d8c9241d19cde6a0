"""Fit a conversation into the model's window."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import orjson

from logue_common.internal import ContextMessage

#: Bytes of UTF-8 per token, on the safe side for text of all scripts (OpenAI counts about 4 for English).
BYTES_PER_TOKEN = 3
#: What a chat template adds around a message.
TOKENS_PER_MESSAGE = 4


def tokens_of(content: str) -> int:
    """An upper estimate of the tokens of one message."""
    return len(content.encode()) // BYTES_PER_TOKEN + 1 + TOKENS_PER_MESSAGE


@dataclass(frozen=True, slots=True)
class Said:
    """A message of a conversation, with what every later turn of it needs."""

    id: str
    parent_id: str | None
    role: str
    #: As OpenAI's protocol has it, in JSON.
    body: bytes
    tokens: int
    characters: int

    @classmethod
    def of(cls, message: ContextMessage) -> Self:
        """From a stored message."""
        body = message_body(message.role, message.content)
        content = message.content
        return cls(message.id, message.parent_id, message.role, body, tokens_of(content), len(content))


def message_body(role: str, content: str) -> bytes:
    """A message as OpenAI's protocol has it, in JSON."""
    return orjson.dumps({"role": role, "content": content})


class Line:
    """A path from the root of a conversation. Its sums make trimming cost the same after 10 and after 1,000 turns."""

    def __init__(self, oldest_first: Iterable[Said] = ()) -> None:
        self._messages: list[Said] = []
        self._bodies: list[bytes] = []
        #: Tokens of the first n messages, for every n.
        self._sums = [0]
        for message in oldest_first:
            self.add(message)

    @property
    def leaf(self) -> str | None:
        """The id of the latest message."""
        return self._messages[-1].id if self._messages else None

    def add(self, message: Said) -> None:
        """The path goes on."""
        self._messages.append(message)
        self._bodies.append(message.body)
        self._sums.append(self._sums[-1] + message.tokens)

    def latest(self, max_tokens: int) -> list[bytes]:
        """The latest messages that fit into `max_tokens`, oldest first; they never begin with a torn-off reply."""
        first = bisect_left(self._sums, self._sums[-1] - max_tokens) if self._sums[-1] > max_tokens else 0
        while 0 < first < len(self._messages) and self._messages[first].role == "assistant":
            first += 1
        return self._bodies[first:]


def trim(line: Line, question: str, max_tokens: int) -> list[bytes]:
    """The latest messages that fit into `max_tokens` together with `question`, oldest first, in the OpenAI shape.

    Keeps messages whole, always keeps the question, and does not begin with a reply whose question did not fit.
    """
    kept = line.latest(max_tokens - tokens_of(question))
    kept.append(message_body("user", question))
    return kept
