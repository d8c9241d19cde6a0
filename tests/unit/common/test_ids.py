"""Ids: new ones sort by time, derived ones are the same wherever they are derived."""

from __future__ import annotations

import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logue_common.ids import derived_id, is_id, new_id

MILLISECONDS = st.integers(min_value=0, max_value=2**48 - 1)
PARTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=4)


def _new_id_at(milliseconds: int) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: milliseconds * 1_000_000)
        return new_id()


@given(MILLISECONDS)
def test_a_new_id_is_a_version_7_uuid_that_carries_its_millisecond(milliseconds: int) -> None:
    made = uuid.UUID(_new_id_at(milliseconds))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == milliseconds


@given(MILLISECONDS, MILLISECONDS)
def test_new_ids_sort_by_the_millisecond_of_their_making(one: int, other: int) -> None:
    if one != other:
        assert (_new_id_at(one) < _new_id_at(other)) == (one < other)


def test_new_ids_of_one_millisecond_differ() -> None:
    assert len({_new_id_at(1_700_000_000_000) for _ in range(10_000)}) == 10_000


@given(PARTS)
def test_a_derived_id_is_a_canonical_version_8_uuid(parts: list[str]) -> None:
    made = derived_id("turn", *parts)
    assert is_id(made)
    assert (uuid.UUID(made).version, uuid.UUID(made).variant) == (8, uuid.RFC_4122)
    assert made == derived_id("turn", *parts)


@given(PARTS, PARTS)
def test_different_parts_give_different_ids(one: list[str], other: list[str]) -> None:
    assert (derived_id("turn", *one) == derived_id("turn", *other)) == (one == other)


def test_parts_are_hashed_with_their_lengths() -> None:
    ids = {
        derived_id("turn", "ab", "c"),
        derived_id("turn", "a", "bc"),
        derived_id("turn", "abc"),
        derived_id("turn", "abc", ""),
        derived_id("turna", "bc"),
        derived_id("conversation", "abc"),
    }
    assert len(ids) == 6


def test_a_derived_id_never_changes() -> None:
    """Retries of a request must find its turn after an upgrade, too."""
    assert derived_id("turn", "user-1", "key-1") == "2af13dae-148a-815d-9e42-3cc4eeeaf29b"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "turn-1",
        "0190A5D2-7C00-7000-8000-000000000000",
        "0190a5d27c0070008000000000000000",
        "{0190a5d2-7c00-7000-8000-000000000000}",
        "urn:uuid:0190a5d2-7c00-7000-8000-000000000000",
        "0190a5d2-7c00-7000-8000-00000000000٠",
        " 0190a5d2-7c00-7000-8000-000000000000",
        "\ud800",
    ],
)
def test_only_the_canonical_form_is_an_id(text: str) -> None:
    assert not is_id(text)
    assert is_id("0190a5d2-7c00-7000-8000-000000000000")
