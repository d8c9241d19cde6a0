"""The title of a conversation that was not given one."""

from __future__ import annotations

import unicodedata

#: Fits a line of a conversation list.
TITLE_CHARS = 60
_JOINER = "\u200d"


def title_of(content: str) -> str | None:
    """The beginning of the first message, on one line, not cut within a word or a character if that can be helped."""
    # A few hundred characters are enough for sixty, however much white space there is between them.
    words = " ".join(_printable(content[: TITLE_CHARS * 16]).split())
    if len(words) <= TITLE_CHARS:
        return words or None
    head = words[: TITLE_CHARS - 1]
    end = TITLE_CHARS - 1
    if words[end] != " ":
        cut = head.rfind(" ")
        end = cut if cut >= TITLE_CHARS // 2 else _character_start(words, end)
    return words[:end].rstrip() + "…"


def _printable(text: str) -> str:
    return "".join(" " if unicodedata.category(char) == "Cc" else char for char in text)


def _character_start(text: str, end: int) -> int:
    """The largest place up to `end` that does not divide a base character from its marks or a joined emoji."""
    start = end
    while start > 0 and (unicodedata.combining(text[start]) or _JOINER in text[start - 1 : start + 1]):
        start -= 1
    return start or end
