"""U+0000 in text and JSON."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from logue_conversation.escaping import escape, escape_json, unescape, unescape_json

TRICKY = st.text(st.sampled_from("\x00\x1a0a\\")) | st.text()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TRICKY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TRICKY, inner, max_size=3),
    max_leaves=10,
)


@given(TRICKY)
@example("\x1a0\x00")
def test_text_survives_and_holds_no_nul_meanwhile(text: str) -> None:
    assert "\x00" not in escape(text)
    assert unescape(escape(text)) == text


@given(TRICKY, TRICKY)
def test_different_texts_stay_different(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@given(JSON)
def test_json_survives_with_its_keys(value: object) -> None:
    assert "\\u0000" not in repr(escape_json(value)).replace("\\x00", "\\u0000")
    assert unescape_json(escape_json(value)) == value


def test_ordinary_text_is_left_alone() -> None:
    assert escape("ordinary\r\n✓") == "ordinary\r\n✓"
