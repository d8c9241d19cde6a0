"""When a turn is lost."""

from __future__ import annotations

import pytest

from logue_conversation.reconciler import RequestLog, is_gone

LOG = RequestLog(start=10, end=100, agents_committed=50, stored=100)


@pytest.mark.parametrize(
    ("offset", "gone"),
    [(9, True), (10, True), (49, True), (50, False), (99, False), (100, True), (None, True)],
)
def test_a_request_is_gone_when_no_agent_will_take_it(offset: int | None, gone: bool) -> None:
    assert is_gone(offset, LOG) is gone


def test_an_attempt_without_request_is_not_gone_while_requests_are_still_to_be_stored() -> None:
    assert is_gone(None, RequestLog(start=0, end=100, agents_committed=100, stored=99)) is False
