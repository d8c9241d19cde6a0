"""Fit a conversation into the model's window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

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
    """A message of a conversation, with what every later turn of it needs: a turn's cost must not grow with each."""

    id: str
    parent_id: str | None
    role: str
    #: As OpenAI's protocol has it.
    body: dict[str, str]
    tokens: int

    @classmethod
    def of(cls, message: ContextMessage) -> Self:
        """From a stored message."""
        body = {"role": message.role, "content": message.content}
        return cls(message.id, message.parent_id, message.role, body, tokens_of(message.content))


def trim(newest_first: Iterable[Said], question: str, max_tokens: int) -> list[dict[str, str]]:
    """The latest messages that fit into `max_tokens` together with `question`, oldest first, in the OpenAI shape.

    Reads no further back than it needs, keeps messages whole, always keeps the question, and does not begin with a
    reply whose question did not fit.
    """
    budget = max_tokens - tokens_of(question)
    kept: list[dict[str, str]] = []
    for message in newest_first:
        budget -= message.tokens
        if budget < 0:
            while kept and kept[-1]["role"] == "assistant":
                kept.pop()
            break
        kept.append(message.body)
    kept.reverse()
    kept.append({"role": "user", "content": question})
    return kept
