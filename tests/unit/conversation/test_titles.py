"""Titles from first messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logue_conversation.titles import TITLE_CHARS, title_of


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("What is a log?", "What is a log?"),
        ("  two\r\nlines\t and\x00more ", "two lines and more"),
        ("word " * 30, "word " * 11 + "word…"),
        ("x" * 100, "x" * 59 + "…"),
        ("\x00\n ", None),
        ("a" * 57 + "e\u0301\u0302\u0303 and more", "a" * 57 + "…"),
        ("a" * 57 + "👩\u200d👩\u200d👧 and more", "a" * 57 + "…"),
    ],
)
def test_titles(content: str, title: str | None) -> None:
    assert title_of(content) == title


@given(st.text())
def test_a_title_is_one_short_line(content: str) -> None:
    title = title_of(content)
    assert title is None or (0 < len(title) <= TITLE_CHARS and "\n" not in title)
