from __future__ import annotations

from logue_agent.positions import start_positions

BEGINNINGS = {"a": 0, "b": 5}
ENDS = {"a": 10, "b": 10}


def test_a_new_owner_begins_at_the_commits() -> None:
    assert start_positions({"a": 3, "b": 7}, BEGINNINGS, ENDS) == {"a": 3, "b": 7}


def test_without_a_commit_it_begins_at_the_beginning() -> None:
    assert start_positions({"a": None, "b": None}, BEGINNINGS, ENDS) == BEGINNINGS


def test_what_retention_took_is_passed_over() -> None:
    assert start_positions({"a": 3, "b": 2}, BEGINNINGS, ENDS) == {"a": 3, "b": 5}


def test_a_log_that_lost_its_tail_is_read_from_its_beginning_in_all_topics() -> None:
    assert start_positions({"a": 11, "b": 10}, BEGINNINGS, ENDS) == BEGINNINGS
