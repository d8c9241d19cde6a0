"""What the demo model can be told to do: by environment, by a directive in the message, by the body. The last wins."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

_DIRECTIVE = re.compile(r"\{\{([^{}\n]*)\}\}[ \n]?")
_FLAGS = {"hang", "echo", "context"}


class Knobs(BaseModel):
    """Every knob at rest: a short readable reply, at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ttft: float = Field(default=0.0, ge=0, le=3600)
    """Seconds to the first token."""
    gap: float = Field(default=0.0, ge=0, le=3600)
    """Seconds between tokens."""
    tokens: int | None = Field(default=None, ge=0, le=1_000_000)
    """The reply's length in tokens; it is then `w1 w2 w3 …`, so that a lost or doubled token shows."""
    fail: int | None = Field(default=None, ge=400, le=599)
    """Answer with this HTTP status."""
    fail_times: int | None = Field(default=None, ge=0)
    """Fail only the first calls with this same last user message."""
    cut: int | None = Field(default=None, ge=0)
    """Close the connection after this many tokens, without a finish."""
    hang: bool = False
    """Never answer."""
    echo: bool = False
    """Reply with exactly the last user message (without its directive)."""
    context: bool = False
    """Reply with the role and SHA-256 of every message, as compact JSON: what did the model get to see?"""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """`LOGUE_DEMO_TTFT`, `LOGUE_DEMO_GAP`, …: the same names in capitals."""
        named = {name: environment.get(f"LOGUE_DEMO_{name.upper()}") for name in cls.model_fields}
        return cls.model_validate({name: value for name, value in named.items() if value})

    def updated(self, values: Mapping[str, Any]) -> Self:
        """A copy with these values. Raises pydantic.ValidationError."""
        if not values:
            return self
        return type(self).model_validate(self.model_dump() | dict(values))


def split_directive(text: str) -> tuple[dict[str, Any], str]:
    """The knobs of the first `{{name=value flag …}}` in the text, and the text without it and the blank after it.

    Braces that hold anything but known names are ordinary text.
    """
    for match in _DIRECTIVE.finditer(text):
        values = _parse(match[1])
        if values:
            return values, text[: match.start()] + text[match.end() :]
    return {}, text


def _parse(words: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for word in words.split():
        name, equals, value = word.partition("=")
        if name not in Knobs.model_fields or (not equals and name not in _FLAGS):
            return {}
        values[name] = value if equals else True
    return values
