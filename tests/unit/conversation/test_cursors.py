"""List cursors."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logue_common.errors import ProblemError
from logue_common.ids import new_id
from logue_conversation.cursors import (
    conversation_cursor,
    message_cursor,
    read_conversation_cursor,
    read_message_cursor,
)


@given(st.datetimes(timezones=st.just(UTC)), st.uuids().map(str))
def test_a_conversation_cursor_is_read_back(at: datetime, conversation_id: str) -> None:
    assert read_conversation_cursor(conversation_cursor(at, conversation_id)) == (at, conversation_id)


@given(st.integers(0, 2**63 - 1), st.integers(0, 1))
def test_a_message_cursor_is_read_back(sequence: int, position: int) -> None:
    assert read_message_cursor(message_cursor(sequence, position)) == (sequence, position)


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_whatever_else_is_refused_with_a_field_path(cursor: str) -> None:
    for read in (read_conversation_cursor, read_message_cursor):
        with pytest.raises(ProblemError) as refused:
            read(cursor)
        assert refused.value.status == 422
        assert refused.value.problem.errors is not None
        assert refused.value.problem.errors[0]["path"] == "cursor"


def test_a_cursor_of_another_list_is_refused() -> None:
    with pytest.raises(ProblemError):
        read_message_cursor(conversation_cursor(datetime(2026, 1, 1, tzinfo=UTC), new_id()))
    with pytest.raises(ProblemError):
        read_conversation_cursor(message_cursor(1, 0))
