"""PostgreSQL's text and jsonb cannot hold U+0000. It is stored as an escape pair, and read back as it was."""

from __future__ import annotations

import re
from typing import Any

_NUL = "\x00"
#: SUBSTITUTE: what ASCII has for a character that cannot be represented, and next to never in real text.
_ESCAPE = "\x1a"
_PAIR = re.compile(f"{_ESCAPE}([0{_ESCAPE}])")


def escape(text: str) -> str:
    """`text` without U+0000; `unescape` gives it back exactly."""
    if _NUL not in text and _ESCAPE not in text:
        return text
    return text.replace(_ESCAPE, _ESCAPE * 2).replace(_NUL, _ESCAPE + "0")


def unescape(text: str) -> str:
    """The text that `escape` was given."""
    if _ESCAPE not in text:
        return text
    return _PAIR.sub(lambda pair: _NUL if pair[1] == "0" else _ESCAPE, text)


def needs_escape(dumped: str) -> bool:
    """True when a JSON text has something for `escape_json` or `unescape_json` in it, perhaps."""
    return r"\u0000" in dumped or r"\u001a" in dumped


def escape_json(value: Any) -> Any:
    """`escape` for every string and every key of a JSON value."""
    return _mapped(value, escape)


def unescape_json(value: Any) -> Any:
    """The JSON value that `escape_json` was given."""
    return _mapped(value, unescape)


def _mapped(value: Any, change: Any) -> Any:
    match value:
        case str():
            return change(value)
        case list() | tuple():
            return [_mapped(item, change) for item in value]
        case dict():
            return {change(key): _mapped(item, change) for key, item in value.items()}
        case _:
            return value
