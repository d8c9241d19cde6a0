from __future__ import annotations

from typing import Any

from tests.bench.compare import Block
from tests.bench.report import TARGETS, markdown
from tests.bench.rounds import figures

PROCESSES = {
    "model": ("model",),
    "monolith": ("postgres", "monolith"),
    "logue-noida": ("gateway-0", "agent-0", "conversation", "broker"),
    "logue-apache": ("gateway-0", "agent-0", "conversation", "broker"),
}


def block(first_ms: float, cpu_seconds: float, per_second: float, names: tuple[str, ...], error: str = "") -> Block:
    return Block(
        seconds=100 / per_second,
        answered=100,
        first_ms=[first_ms] * 100,
        cpu_seconds=dict.fromkeys(names, cpu_seconds),
        errors=[error] if error else [],
    )


def results(first_ms: float, cpu_seconds: float, per_second: float, error: str = "") -> dict[str, Any]:
    """The monolith takes 6 ms to the first text (5 more than the model), 1 s of CPU for 100 turns, and does 100/s."""
    rounds = {
        name: [
            {
                phase: block(1, 0.0, 1000, names)
                if name == "model"
                else block(6, 1.0, 100, names)
                if name == "monolith"
                else block(first_ms, cpu_seconds, per_second, names, error)
                for phase in ("unloaded", "steady", "saturated", "paced")
            }
        ]
        for name, names in PROCESSES.items()
    }
    measured = {"compare": "today, commit 2", "drain": "yesterday, commit 1"}
    return {"machine": "", "amount": "", "measured": measured, "compare": figures(rounds)}


def missed(found: dict[str, Any]) -> list[str]:
    return [target.text for target in TARGETS if target.reached(found) is False]


def test_cpu_is_that_of_the_service_and_not_of_its_broker():
    found = results(5, 0.1, 300)["compare"]["logue-apache"]["saturated"]
    assert found["own_cpu_ms"]["median"] == 3.0
    assert found["cpu_ms"]["broker"] == 1.0


def test_better_than_the_reference_reaches_every_target_that_was_measured():
    assert missed(results(5, 0.1, 300)) == []


def test_each_target_is_missed_by_what_it_is_about():
    assert [text for text in missed(results(7, 0.1, 300)) if "first text" not in text] == []
    assert len(missed(results(7, 0.1, 300))) == 4
    assert [text.split(" ÷")[0] for text in missed(results(5, 0.2, 300))] == ["CPU of a turn at saturation"] * 2
    assert len(missed(results(5, 0.1, 150))) == 1  # 1.2 times is enough on Apache Kafka


def test_an_error_misses_its_target():
    assert missed(results(5, 0.1, 300, "connection lost")) == ["errors in the comparison"]


def test_what_was_not_measured_is_not_in_the_table():
    text = markdown(results(5, 0.1, 300))
    assert "10,000" not in text
    assert "missed" not in text


def test_the_tables_say_what_was_measured_when():
    first_line = markdown(results(5, 0.1, 300)).splitlines()[0]
    assert "Measured yesterday, commit 1: drain. Measured today, commit 2: compare." in first_line
