"""Outcomes that an owner proposes: complete enough to store and to show."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.agent.events import NOW, conversation, requested, turn

from logue_agent.context import ROOT
from logue_agent.model import Completion
from logue_agent.outcomes import Progress, outcome_of
from logue_agent.turn import Turn
from logue_common.errors import problem
from logue_common.events import Usage, decode, encode
from logue_common.frames import end_frame

PARENT = turn("parent")


def a_turn(**fields: Any) -> Turn:
    return Turn(requested("1", **fields), partition=3, offset=41, attempt=7, n=12)


def progress(**fields: Any) -> Progress:
    completion = Completion(model="demo-2", usage=Usage(total_tokens=5), finish_reason="stop")
    values: dict[str, Any] = {"parent_id": PARENT, "started_at": NOW, "first_token_at": NOW, "completion": completion}
    return Progress(**(values | fields))


def test_a_completed_turn_has_its_reply_after_its_question() -> None:
    outcome = outcome_of(a_turn(), progress(), "completed", NOW, text="answer")
    assert outcome.message is not None
    request = a_turn().request
    assert (outcome.message.id, outcome.message.parent_id) == (request.reply_message_id, request.user_message_id)
    assert outcome.message.content == "answer"
    assert (outcome.parent_id, outcome.user_message_id) == (PARENT, request.user_message_id)
    assert (outcome.model, outcome.usage) == ("demo-2", Usage(total_tokens=5))
    assert (outcome.conversation_id, outcome.user_id, outcome.turn_id) == (conversation("a"), "user-1", turn("1"))
    assert (outcome.started_at, outcome.first_token_at, outcome.finished_at) == (NOW, NOW, NOW)


def test_the_outcome_carries_the_number_of_the_next_frame_and_takes_none() -> None:
    owned = a_turn()
    outcome = outcome_of(owned, progress(), "completed", NOW, text="answer")
    assert (outcome.attempt, outcome.n) == (7, 13)
    assert owned.n == 12


def test_an_empty_reply_is_a_reply() -> None:
    outcome = outcome_of(a_turn(), progress(), "completed", NOW)
    assert outcome.message is not None
    assert outcome.message.content == ""


@pytest.mark.parametrize(("text", "kept"), [("par", True), ("", False)])
def test_a_cancelled_turn_keeps_text_that_is_not_empty(text: str, kept: bool) -> None:
    outcome = outcome_of(a_turn(), progress(), "cancelled", NOW, text=text)
    assert (outcome.message is not None) == kept


def test_a_failed_turn_has_no_reply_but_its_problem() -> None:
    cause = problem("model_error", "Try again.")
    outcome = outcome_of(a_turn(), progress(), "failed", NOW, text="par", error=cause)
    assert (outcome.message, outcome.error) == (None, cause)


def test_a_turn_that_never_ran_names_the_parent_and_model_that_were_asked_for() -> None:
    cause = problem("turn_expired", "Send it again.")
    outcome = outcome_of(a_turn(parent_id=PARENT, model="m"), Progress(), "failed", NOW, error=cause)
    assert (outcome.parent_id, outcome.model, outcome.usage) == (PARENT, "m", None)
    assert (outcome.started_at, outcome.first_token_at) == (None, None)


def test_root_is_no_parent() -> None:
    outcome = outcome_of(a_turn(parent_id=ROOT), progress(parent_id=None), "completed", NOW, text="answer")
    assert outcome.parent_id is None


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_every_outcome_survives_the_log_and_can_be_shown(status: Any) -> None:
    cause = problem("model_error", "Try again.") if status == "failed" else None
    outcome = outcome_of(a_turn(), progress(), status, NOW, text="\0 é\u2028", error=cause)
    again = decode(type(outcome), encode(outcome))
    assert again == outcome
    assert end_frame(again) == end_frame(outcome)
