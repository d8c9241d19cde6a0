"""Labels whose values others choose."""

from __future__ import annotations

from logue_agent.bounded_label import BoundedLabel


def test_a_value_is_shown_once_it_proved_right() -> None:
    models = BoundedLabel()
    assert models.of("gpt") == "other"
    assert models.admit("gpt") == "gpt"
    assert models.of("gpt") == "gpt"


def test_there_are_never_more_than_so_many() -> None:
    models = BoundedLabel(most=2)
    shown = {models.admit(f"model-{number}") for number in range(1000)}
    assert shown == {"model-0", "model-1", "other"}
