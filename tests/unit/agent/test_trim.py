"""Trimming: within the budget, the latest first, nothing torn."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from logue_agent.trim import TOKENS_PER_MESSAGE, Line, Said, tokens_of, trim
from logue_common.internal import ContextMessage

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@st.composite
def conversations(draw: st.DrawFn) -> list[ContextMessage]:
    """Oldest first. Questions and replies in turn, but for turns whose reply failed."""
    messages: list[ContextMessage] = []
    for number, content in enumerate(draw(st.lists(TEXT, max_size=12))):
        after_question = bool(messages) and messages[-1].role == "user"
        role = "assistant" if after_question and draw(st.booleans()) else "user"
        messages.append(ContextMessage(id=str(number), parent_id=None, role=role, content=content))
    return messages


def trim_all(messages: list[ContextMessage], question: str, max_tokens: int) -> list[dict[str, str]]:
    return [orjson.loads(body) for body in trim(Line(map(Said.of, messages)), question, max_tokens)]


def _as_sent(messages: list[ContextMessage]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


@given(conversations(), TEXT, st.integers(min_value=0, max_value=300))
def test_trimming_keeps_the_latest_that_fit_in_order(
    messages: list[ContextMessage], question: str, max_tokens: int
) -> None:
    *kept, asked = trim_all(messages, question, max_tokens)
    assert asked == {"role": "user", "content": question}
    assert kept == _as_sent(messages)[len(messages) - len(kept) :]
    used = sum(tokens_of(message["content"]) for message in [*kept, asked])
    assert used <= max_tokens or not kept


@given(conversations(), TEXT, st.integers(min_value=0, max_value=300))
def test_no_more_is_left_out_than_must_be(messages: list[ContextMessage], question: str, max_tokens: int) -> None:
    def fits(count: int) -> bool:
        latest = messages[len(messages) - count :]
        return tokens_of(question) + sum(tokens_of(message.content) for message in latest) <= max_tokens

    most = max((count for count in range(1, len(messages) + 1) if fits(count)), default=0)
    while 0 < most < len(messages) and messages[len(messages) - most].role == "assistant":
        most -= 1  # its question did not fit
    assert len(trim_all(messages, question, max_tokens)) - 1 == most


@given(conversations(), TEXT, st.integers(min_value=0, max_value=300))
def test_a_trimmed_conversation_never_begins_with_a_reply(
    messages: list[ContextMessage], question: str, max_tokens: int
) -> None:
    sent = trim_all(messages, question, max_tokens)
    if len(sent) - 1 < len(messages):
        assert sent[0]["role"] == "user"


@given(conversations(), TEXT)
def test_everything_is_kept_when_it_fits(messages: list[ContextMessage], question: str) -> None:
    sent = trim_all(messages, question, 100_000)
    assert sent == [*_as_sent(messages), {"role": "user", "content": question}]


def test_the_question_is_kept_even_when_it_alone_is_too_long() -> None:
    before = ContextMessage(id="1", parent_id=None, role="user", content="before")
    assert trim_all([before], "x" * 1000, 10) == [{"role": "user", "content": "x" * 1000}]


@given(TEXT, TEXT)
def test_the_estimate_of_tokens_is_on_the_safe_side(one: str, other: str) -> None:
    assert tokens_of(one) > len(one.encode()) / 3 + TOKENS_PER_MESSAGE - 1
    assert tokens_of(one + other) <= tokens_of(one) + tokens_of(other)
