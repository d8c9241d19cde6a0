"""What the demo model says: a pure function of the messages and the knobs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import orjson

from logue_devstack.demo_model.knobs import Knobs

_TOKEN = re.compile(r"\s{0,8}\S{1,12}|\s{1,8}")
_QUOTE_CHARACTERS = 160

_OPENINGS = (
    "Good question.",
    "Thank you for asking.",
    "Happy to help.",
    "Let me think about that.",
    "Here is what I can say.",
)
_CLOSINGS = (
    "I am the demo model: I read your words and count them, but I do not understand them.",
    "I am the demo model, so take this as proof that the stream works rather than as advice.",
    "A real model would know more; set OPENAI_API_KEY to ask one.",
    "Ask me anything else, and I will answer just as confidently.",
)


def text_of(message: dict[str, Any]) -> str:
    """A message's text, whether its content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def reply_to(messages: Sequence[dict[str, Any]], question: str, knobs: Knobs) -> list[str]:
    """The reply as tokens; joined they are its text. `question` is the last user message without its directive."""
    if knobs.tokens is not None:
        return [f"w{n}" if n == 1 else f" w{n}" for n in range(1, knobs.tokens + 1)]
    if knobs.echo:
        return tokens_of(question)
    if knobs.context:
        seen = [{"role": m.get("role"), "sha256": sha256(text_of(m).encode()).hexdigest()} for m in messages]
        return tokens_of(orjson.dumps(seen).decode())
    return tokens_of(_sentences(messages, question))


def tokens_of(text: str) -> list[str]:
    """Words with the blanks before them, long ones in pieces."""
    return _TOKEN.findall(text)


def count_words(messages: Sequence[dict[str, Any]]) -> int:
    """The demo model's idea of prompt tokens."""
    return sum(len(text_of(message).split()) for message in messages)


def _sentences(messages: Sequence[dict[str, Any]], question: str) -> str:
    seed = sha256(question.encode()).digest()
    words = len(question.split())
    quote = question.strip()
    if len(quote) > _QUOTE_CHARACTERS:
        quote = quote[:_QUOTE_CHARACTERS].rstrip() + "…"
    earlier = sum(message.get("role") == "user" for message in messages) - 1
    parts = [_OPENINGS[seed[0] % len(_OPENINGS)]]
    parts.append(f"You wrote “{quote}”, which is {words} {'word' if words == 1 else 'words'}.")
    if earlier > 0:
        parts.append(f"Before that you had sent me {earlier} {'message' if earlier == 1 else 'messages'} here.")
    parts.append(_CLOSINGS[seed[1] % len(_CLOSINGS)])
    return " ".join(parts)
