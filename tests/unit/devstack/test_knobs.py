from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logue_devstack.demo_model.knobs import Knobs, split_directive
from logue_devstack.demo_model.replies import tokens_of


def test_environment_uses_the_same_names() -> None:
    knobs = Knobs.from_environment({"LOGUE_DEMO_TTFT": "0.5", "LOGUE_DEMO_TOKENS": "3", "LOGUE_DEMO_ECHO": "1"})
    assert (knobs.ttft, knobs.tokens, knobs.echo, knobs.gap) == (0.5, 3, True, 0.0)


def test_later_sources_win() -> None:
    knobs = Knobs(gap=1.0, tokens=5).updated({"tokens": "7"}).updated({"gap": 0})
    assert (knobs.gap, knobs.tokens) == (0.0, 7)


@pytest.mark.parametrize(
    ("text", "values", "rest"),
    [
        ("{{tokens=20 gap=0.01}} hi", {"tokens": "20", "gap": "0.01"}, "hi"),
        ("hi {{echo}}", {"echo": True}, "hi "),
        ("{{ hang }}", {"hang": True}, ""),
        ("{{name}} is {{ user.name }}", {}, "{{name}} is {{ user.name }}"),
        ("{{tokens}}", {}, "{{tokens}}"),
        ("{{x}} {{echo}} y", {"echo": True}, "{{x}} y"),
        ("{{}} { {", {}, "{{}} { {"),
    ],
)
def test_directive_is_split_from_the_text(text: str, values: dict[str, object], rest: str) -> None:
    assert split_directive(text) == (values, rest)


@given(st.text(max_size=200))
def test_tokens_join_to_the_text(text: str) -> None:
    assert "".join(tokens_of(text)) == text
