"""Bytes that nobody means well with, for Hypothesis, and what tests of decoders share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from hypothesis import strategies as st

from logue_common.ids import derived_id

T = TypeVar("T")

SECRET = "a-secret-of-thirty-two-bytes-or-more"
TURN, CONVERSATION = derived_id("turn", "1"), derived_id("conversation", "1")


def attempt(call: Callable[[], T], *declared: type[Exception]) -> tuple[T | None, Any]:
    """(what `call` returns, None), or (None, the error that it may raise). Any other error fails the test."""
    try:
        return call(), None
    except declared as error:
        return None, error


TEXT = st.text(max_size=30)
#: JSON as others may write it: large numbers, deep nesting, names that mean something elsewhere.
NAMES = st.sampled_from(["turn_id", "user_id", "content", "error", "choices", "delta", "usage", "model", "keys", "sub"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats() | TEXT | st.just(TURN),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | TEXT, inner, max_size=4),
    max_leaves=12,
)


def dumped(value: Any) -> bytes:
    """As JSON, for values that JSON has."""
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)


def _clean(value: Any) -> Any:
    """Without what orjson refuses to write: lone surrogates, integers beyond 64 bits."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case int() if not isinstance(value, bool):
            return value % 2**63
        case dict():
            return {_clean(key): _clean(item) for key, item in value.items()}
        case list():
            return [_clean(item) for item in value]
    return value


DOCUMENTS = JSON.map(_clean).map(dumped)
BYTES = st.binary(max_size=200) | DOCUMENTS


@st.composite
def changed(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """A good document with some bytes changed, cut out or put in."""
    found = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(found) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "put"])):
            case "flip" if found:
                found[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del found[at : at + draw(st.integers(1, 9))]
            case _:
                found[at:at] = draw(
                    st.binary(max_size=5) | st.sampled_from([b'"', b"{", b"null", b"1e999", b"\\ud800"])
                )
    return bytes(found)


@st.composite
def refilled(draw: st.DrawFn, originals: list[dict[str, Any]]) -> bytes:
    """A good object with some members replaced by whatever."""
    found = dict(draw(st.sampled_from(originals)))
    for name in draw(st.lists(st.sampled_from(sorted(found)), min_size=1, max_size=3)):
        found[name] = _clean(draw(JSON))
    return dumped(found)
