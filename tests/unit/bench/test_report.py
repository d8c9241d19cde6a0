from __future__ import annotations

from collections import Counter
from typing import Any

from tests.bench.calls import EXPECTED, Answer
from tests.bench.load import Answers
from tests.bench.report import TARGETS, added_first, figures_of, markdown


def answer(first_ms: float, error: str = "") -> Answer:
    return Answer(first_ms=first_ms, total_ms=first_ms + 100, error=error)


def results(first_ms: float, error: str = "") -> dict[str, Any]:
    alone = Answers({way: [answer(first_ms if way != "direct" else 1)] for way in ("direct", "new", "known")})
    users = Answers({"direct": [answer(200)], "logue": [answer(200 + first_ms), answer(0, error)]})
    for way in ("direct", "logue"):
        users.cpu_seconds[way] = Counter({"gateway-0": 0.01})
        users.seconds[way] = 2.0
    brokers = {"noida": figures_of(alone, users)}
    return {"date": "", "machine": "", "commit": "", "amount": "", "users": 2, "brokers": brokers}


def test_added_time_is_paired_by_round_and_leaves_out_rounds_with_errors():
    logue, direct = [answer(30), answer(50), answer(0, "broken")], [answer(10), answer(20), answer(5)]
    assert added_first(logue, direct, paired=True) == [20, 30]


def test_added_time_of_many_users_is_against_the_direct_median():
    assert added_first([answer(30), answer(50)], [answer(9), answer(10), answer(99)], paired=False) == [20, 40]


def test_an_error_is_counted_and_misses_its_target():
    found = results(5, "connection lost")
    assert found["brokers"]["noida"]["errors"] == 1
    assert "1 **missed**" in markdown(found)
    assert "connection lost" in markdown(found)


def test_fast_enough_reaches_every_target_but_a_slow_one_does_not():
    assert all(target.reached(results(5)["brokers"]["noida"]) <= target.limit for target in TARGETS)
    assert markdown(results(5)).count("missed") == 0
    assert markdown(results(500)).count("missed") == 5


def test_lost_doubled_and_differently_stored_tokens_are_errors():
    for text, stored in (("w1 w2", None), (f"{EXPECTED} w20", None), (EXPECTED, "w1")):
        wrong = Answer()
        wrong.add(text)
        wrong.end(stored)
        assert wrong.error
    right = Answer()
    right.add("")
    assert right.first_ms == 0
    right.add(EXPECTED)
    right.end(EXPECTED)
    assert not right.error
    assert right.first_ms > 0
