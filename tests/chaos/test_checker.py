"""The checker finds nothing in a history in which nothing is wrong, and whatever is wrong in any other."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.chaos.checker import check
from tests.chaos.figures import figures
from tests.chaos.history import Ask, Connection, Event, Exchange, Fault, GaveUp, History, Oddity
from tests.chaos.story import MARKERS, id_of, time_of, valid_history

Break = Callable[[History], object]
TALK = id_of("conversation", "talk")


def rules(history: History) -> set[str]:
    return {violation.rule for violation in check(history)}


# Where to break it


def turn_of(history: History, key: str) -> Exchange:
    """The turn as it was read in the end."""
    return next(e for e in history.exchanges if e.final and e.what == "turn" and e.subject == id_of("turn", key))


def view_of(history: History, key: str, number: int = 0) -> Connection:
    """The turn's connections, in order."""
    return [connection for connection in history.connections if connection.key == key][number]


def pages(history: History, user: str = "user-a") -> list[list[dict[str, Any]]]:
    return [e.body["items"] for e in history.exchanges if e.final and e.what == "messages" and e.user == user]


def message_of(history: History, role: str, key: str) -> dict[str, Any]:
    """The message as it was listed in the end."""
    return next(m for user in MARKERS for page in pages(history, user) for m in page if m["id"] == id_of(role, key))


def exchange_of(history: History, what: str, subject: str = "") -> Exchange:
    return next(e for e in history.exchanges if e.what == what and (not subject or e.subject == subject))


def change(connection: Connection, name: str, **changes: Any) -> None:
    """In the data of the first event of that name."""
    at = next(n for n, event in enumerate(connection.events) if event.name == name)
    event = connection.events[at]
    connection.events[at] = event._replace(data={**event.data, **changes})


def drop_turn(history: History, key: str) -> None:
    """The store does not have it."""
    found = turn_of(history, key)
    found.status, found.body = 404, {"code": "turn_not_found"}
    for page in pages(history):
        page[:] = [message for message in page if message["turn_id"] != id_of("turn", key)]


def store_text(history: History, key: str, text: str) -> None:
    """All places agree on another reply."""
    message_of(history, "assistant", key)["content"] = text
    for exchange in history.exchanges:
        body = exchange.body if isinstance(exchange.body, dict) else {}
        if body.get("turn_id") == id_of("turn", key) and body.get("message"):
            body["message"]["content"] = text


# How to break it: the rule that must notice, and what to do


def listed_twice(history: History) -> None:
    pages(history)[1].append({**message_of(history, "user", "one"), "id": id_of("user", "again")})


def two_replies(history: History) -> None:
    pages(history)[1].append({**message_of(history, "assistant", "four"), "id": id_of("assistant", "again")})


def a_second_turn_for_a_key(history: History) -> None:
    exchange_of(history, "chat", "seven").body["turn_id"] = id_of("turn", "another")


def another_text_was_shown(history: History) -> None:
    change(view_of(history, "five"), "message.completed", message={"id": "x", "content": "other"})


def a_failed_turn_was_shown_as_completed(history: History) -> None:
    connection, completed = view_of(history, "six"), view_of(history, "five").events[-1]
    connection.events[-1] = completed._replace(data={**completed.data, "turn_id": id_of("turn", "six")})


def a_reply_vanished(history: History) -> None:
    for page in pages(history):
        page[:] = [message for message in page if message["id"] != id_of("assistant", "five")]


def changed_after_its_end(history: History) -> None:
    exchange = exchange_of(history, "turn", id_of("turn", "four"))
    exchange.body = {**exchange.body, "attempt": 2}


def went_back_to_in_progress(history: History) -> None:
    exchange = exchange_of(history, "turn", id_of("turn", "four"))
    later = copy.deepcopy(exchange)
    later.began += 1
    later.body = {**exchange.body, "status": "in_progress"}
    history.add(later)


def cancelled_by_nobody(history: History) -> None:
    history.records = [r for r in history.records if not (isinstance(r, Exchange) and r.what == "cancel")]


def failed_for_no_reason(history: History) -> None:
    ask(history, "three").answer = "context"
    history.records = [r for r in history.records if not isinstance(r, Fault)]


def failed_as_lost(history: History) -> None:
    turn_of(history, "three").body["error"] = {"code": "turn_lost"}
    exchange_of(history, "chat", "three").body["code"] = "turn_lost"


def busy_though_it_would_have_waited(history: History) -> None:
    ask(history, "six").on_busy = "enqueue"


def ask(history: History, key: str) -> Ask:
    return next(ask for ask in history.asks if ask.key == key)


def lose_a_piece(history: History) -> None:
    del view_of(history, "five").events[2]


def double_a_piece(history: History) -> None:
    events = view_of(history, "five").events
    events.insert(2, events[1]._replace(id="another"))


def double_a_piece_on_resume(history: History) -> None:
    view_of(history, "one", 1).events.insert(0, view_of(history, "one").events[-1])


def forget_a_reset(history: History) -> None:
    events = view_of(history, "two").events
    events[:] = [event for event in events if event.name != "message.reset"]


def an_unfinished_view_shows_another_text(history: History) -> None:
    history.add(unfinished("five", [("message.delta", {"delta": "[{}"})]))


def a_text_that_was_taken_back_was_wrong(history: History) -> None:
    change(view_of(history, "two"), "message.delta", delta="w1 w2")


def unfinished(key: str, told: list[tuple[str, dict[str, Any]]]) -> Connection:
    turn = id_of("turn", key)
    events = [Event(90 + n, name, f"{n}.90.{turn}", data) for n, (name, data) in enumerate(told)]
    return Connection(
        90, "user-a", key, turn, "GET", "http://gateway-0", "", 90.0, 91.0, 200, turn, "broken", events=events
    )


def one_wrong_character_everywhere(history: History) -> None:
    store_text(history, "seven", f"{MARKERS['user-a']} sevem")


def the_model_saw_less(history: History) -> None:
    seen = json.loads(message_of(history, "assistant", "four")["content"])
    store_text(history, "four", json.dumps(seen[2:], separators=(",", ":")))


def the_model_saw_another_order(history: History) -> None:
    seen = json.loads(message_of(history, "assistant", "four")["content"])
    store_text(history, "four", json.dumps([seen[2], seen[1], seen[0], *seen[3:]], separators=(",", ":")))


def a_null_parent_is_another(history: History) -> None:
    message_of(history, "user", "four")["parent_id"] = id_of("assistant", "one")


def a_null_parent_is_a_question(history: History) -> None:
    message_of(history, "user", "four")["parent_id"] = id_of("user", "three")


def another_branch_than_asked_for(history: History) -> None:
    message_of(history, "user", "five")["parent_id"] = id_of("assistant", "four")


def a_path_into_nothing(history: History) -> None:
    message_of(history, "user", "one")["parent_id"] = id_of("user", "nowhere")


def a_reply_to_another_question(history: History) -> None:
    message_of(history, "assistant", "four")["parent_id"] = id_of("user", "one")


def listed_in_another_order(history: History) -> None:
    first, second = pages(history)[:2]
    messages = first + second
    first[:], second[:] = messages[2:4], messages[0:2] + messages[4:]


def a_reply_before_its_question(history: History) -> None:
    page = pages(history)[0]
    page[0], page[1] = page[1], page[0]


def messages_of_a_turn_apart(history: History) -> None:
    page = pages(history)[1]
    page.append(page.pop(0))


def two_turns_at_once(history: History) -> None:
    turn_of(history, "five").body["started_at"] = time_of(4.3)


def a_list_read_on_the_way_had_another_order(history: History) -> None:
    items = exchange_of(history, "messages", TALK).body["items"]
    items[0:2] = items[1::-1]


def a_message_vanished_later(history: History) -> None:
    item = exchange_of(history, "messages", TALK).body["items"][0]
    exchange_of(history, "messages", TALK).body["items"].append({**item, "id": id_of("user", "vanished")})


def a_listed_message_changed(history: History) -> None:
    items = exchange_of(history, "messages", TALK).body["items"]
    items[1] = {**items[1], "content": "something else"}


def an_answer_with_a_text_of_another(history: History) -> None:
    exchange_of(history, "cancel").body["detail"] = f"about {MARKERS['user-b']}"


def an_event_with_a_text_of_another(history: History) -> None:
    change(view_of(history, "eight"), "turn.started", detail=MARKERS["user-a"])


def pieces_that_make_a_text_of_another(history: History) -> None:
    told = [("message.delta", {"delta": MARKERS["user-b"][:9]}), ("message.delta", {"delta": MARKERS["user-b"][9:]})]
    history.add(unfinished("three", told))


def a_list_with_a_conversation_of_another(history: History) -> None:
    exchange_of(history, "conversations", "user-a").body["items"].append({"id": id_of("conversation", "theirs")})


def a_list_with_a_message_of_another(history: History) -> None:
    pages(history)[1].append(message_of(history, "user", "eight"))


def an_id_of_another(history: History) -> None:
    exchange_of(history, "cancel").correlation_id = id_of("turn", "eight")


def the_turn_of_another(history: History) -> None:
    exchange_of(history, "chat", "seven").body["turn_id"] = id_of("turn", "eight")


def a_digest_of_another(history: History) -> None:
    theirs = json.loads(message_of(history, "assistant", "eight")["content"])
    seen = json.loads(message_of(history, "assistant", "four")["content"])
    store_text(history, "four", json.dumps([*seen[:-1], *theirs], separators=(",", ":")))


def waits_in_vain(history: History) -> None:
    history.add(GaveUp("user-a", "follow", id_of("turn", "one"), 100, 130))


def waits_in_vain_long_after_a_fault(history: History) -> None:
    history.add(Fault("kill", "agent-0", 99.0, 110.0))
    history.add(GaveUp("user-a", "follow", id_of("turn", "one"), 100, 175))


def never_ends(history: History) -> None:
    turn_of(history, "five").body["status"] = "in_progress"


def cannot_be_read(history: History) -> None:
    turn_of(history, "five").status = None


def not_settled(history: History) -> None:
    history.settled_at = None


def usage_that_was_not_billed(history: History) -> None:
    more = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
    turn_of(history, "four").body["usage"] = message_of(history, "assistant", "four")["usage"] = more


def usage_of_another_turn(history: History) -> None:
    usage = turn_of(history, "one").body["usage"]
    turn_of(history, "four").body["usage"] = message_of(history, "assistant", "four")["usage"] = usage


def usage_is_missing(history: History) -> None:
    turn_of(history, "four").body["usage"] = message_of(history, "assistant", "four")["usage"] = None


def a_cancelled_turn_with_usage(history: History) -> None:
    usage = turn_of(history, "one").body["usage"]
    turn_of(history, "two").body["usage"] = message_of(history, "assistant", "two")["usage"] = usage


def billed_for_nothing(history: History) -> None:
    history.bills[-1].by_message[f"{MARKERS['user-a']} never sent"] = []


def bill_is_missing(history: History) -> None:
    history.records = [record for record in history.records if record is not history.bills[-1]]


def an_event_after_the_end(history: History) -> None:
    events = view_of(history, "five").events
    events.append(events[1]._replace(id="late"))


def an_event_without_an_id(history: History) -> None:
    events = view_of(history, "five").events
    events[1] = events[1]._replace(id="")


def an_id_twice(history: History) -> None:
    events = view_of(history, "five").events
    events[2] = events[2]._replace(id=events[1].id)


def an_id_of_another_turn(history: History) -> None:
    events = view_of(history, "five").events
    events[1] = events[1]._replace(id=view_of(history, "one").events[1].id)


def started_twice(history: History) -> None:
    events = view_of(history, "five").events
    events.insert(1, events[0]._replace(id="second"))


def started_on_resume(history: History) -> None:
    view_of(history, "one", 1).events.insert(0, view_of(history, "one").events[0]._replace(id="second"))


def an_unknown_event(history: History) -> None:
    events = view_of(history, "five").events
    events.insert(1, events[1]._replace(name="checkpoint", id="second"))


def an_internal_error(history: History) -> None:
    exchange_of(history, "cancel").status = 500


def an_unknown_id_on_resume(history: History) -> None:
    view_of(history, "one", 1).status = 400


def something_odd(history: History) -> None:
    history.add(Oddity("user-a", "one", 1.0, "no Retry-After"))


def a_resume_after_the_end_told_more(history: History) -> None:
    exchange_of(history, "resume").status = 200


BROKEN: list[tuple[str, Break]] = [
    ("1 lost", lambda history: drop_turn(history, "one")),
    ("1 lost", lambda history: exchange_of(history, "conversations", "user-a").body["items"].clear()),
    ("1 duplicate", listed_twice),
    ("1 duplicate", two_replies),
    ("1 duplicate", a_second_turn_for_a_key),
    ("1 outcome", another_text_was_shown),
    ("1 outcome", a_failed_turn_was_shown_as_completed),
    ("1 outcome", a_reply_vanished),
    ("1 outcome", changed_after_its_end),
    ("1 outcome", went_back_to_in_progress),
    ("1 outcome", cancelled_by_nobody),
    ("1 outcome", failed_for_no_reason),
    ("1 outcome", failed_as_lost),
    ("1 outcome", busy_though_it_would_have_waited),
    ("1 outcome", a_listed_message_changed),
    ("2 text", lose_a_piece),
    ("2 text", double_a_piece),
    ("2 text", double_a_piece_on_resume),
    ("2 text", forget_a_reset),
    ("2 text", an_unfinished_view_shows_another_text),
    ("2 text", a_text_that_was_taken_back_was_wrong),
    ("2 text", one_wrong_character_everywhere),
    ("3 context", the_model_saw_less),
    ("3 context", the_model_saw_another_order),
    ("3 context", a_null_parent_is_another),
    ("3 context", a_null_parent_is_a_question),
    ("3 context", another_branch_than_asked_for),
    ("3 context", a_path_into_nothing),
    ("3 context", a_reply_to_another_question),
    ("3 order", listed_in_another_order),
    ("3 order", a_reply_before_its_question),
    ("3 order", messages_of_a_turn_apart),
    ("3 order", two_turns_at_once),
    ("3 order", a_list_read_on_the_way_had_another_order),
    ("3 order", a_message_vanished_later),
    ("4 isolation", an_answer_with_a_text_of_another),
    ("4 isolation", an_event_with_a_text_of_another),
    ("4 isolation", pieces_that_make_a_text_of_another),
    ("4 isolation", a_list_with_a_conversation_of_another),
    ("4 isolation", a_list_with_a_message_of_another),
    ("4 isolation", an_id_of_another),
    ("4 isolation", the_turn_of_another),
    ("4 isolation", a_digest_of_another),
    ("5 stuck", waits_in_vain),
    ("5 stuck", waits_in_vain_long_after_a_fault),
    ("5 stuck", never_ends),
    ("5 stuck", cannot_be_read),
    ("5 stuck", not_settled),
    ("6 usage", usage_that_was_not_billed),
    ("6 usage", usage_of_another_turn),
    ("6 usage", usage_is_missing),
    ("6 usage", a_cancelled_turn_with_usage),
    ("6 usage", billed_for_nothing),
    ("6 usage", bill_is_missing),
    ("protocol", an_event_after_the_end),
    ("protocol", an_event_without_an_id),
    ("protocol", an_id_twice),
    ("protocol", an_id_of_another_turn),
    ("protocol", started_twice),
    ("protocol", started_on_resume),
    ("protocol", an_unknown_event),
    ("protocol", an_internal_error),
    ("protocol", an_unknown_id_on_resume),
    ("protocol", something_odd),
    ("protocol", a_resume_after_the_end_told_more),
]


def test_who_asks_again_for_later_may_be_told_that_it_is_over() -> None:
    """A retry whose first answer got lost: 202, `completed`, and the text is where the turn is."""
    history = valid_history()
    accepted = next(e for e in history.exchanges if e.what == "chat" and e.status == 202)
    accepted.body["status"] = "completed"
    assert check(history) == []


def test_nothing_is_wrong_with_the_valid_history() -> None:
    assert check(valid_history()) == []


@pytest.mark.parametrize(("rule", "break_it"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_broken_history_is_noticed_by_the_right_rule(rule: str, break_it: Break) -> None:
    history = valid_history()
    break_it(history)
    assert rule in rules(history)


def test_a_request_without_acknowledgement_may_exist_but_not_twice() -> None:
    history = valid_history()
    history.records = [record for record in history.records if getattr(record, "subject", "") != "seven"]
    assert check(history) == [], "seven exists, although nobody was told"
    page = next(page for page in pages(history) if len(page) == 2)
    page.append({**page[-1], "id": id_of("assistant", "again")})
    assert "1 duplicate" in rules(history)
    page.clear()
    exchange_of(history, "conversations", "user-a").body["items"].pop()
    history.records.remove(turn_of(history, "seven"))
    assert check(history) == [], "seven does not exist"


def test_waiting_in_vain_is_explained_by_a_fault_and_its_aftermath() -> None:
    history = valid_history()
    history.add(Fault("outage", "all", 99.0, 300.0))
    history.add(GaveUp("user-a", "chat", "never acknowledged", 100, 230))
    history.add(GaveUp("user-a", "chat", "never acknowledged", 305, 340))
    history.add(Fault("outage", "all", 1000.0))
    history.add(GaveUp("user-a", "chat", "never acknowledged", 1100, 1300))
    assert check(history) == []


def test_an_unexpected_failure_is_explained_by_a_fault_of_its_time() -> None:
    history = valid_history()
    ask(history, "three").answer = "context"
    assert check(history) == []
    history.faults[0].began = 60.0
    assert "1 outcome" in rules(history)


def test_times_of_day_are_not_judged_when_clocks_were_set() -> None:
    history = valid_history()
    two_turns_at_once(history)
    assert "3 order" in rules(history)
    history.add(Fault("clock jump", "agent-1", 1.0, 2.0))
    assert check(history) == []


# Mutations

#: What the promises say nothing about, or what a single change cannot contradict.
_IRRELEVANT = {"gateway", "began", "ended", "final", "kind", "broken", "view", "ending", "last_event_id", "at", "since"}
_IRRELEVANT |= {"model", "reason"}
_SOMETHING = dict.fromkeys(("code", "total_tokens", "id", "role", "content", "parent_id", "created_at"), "something")


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all texts, numbers and nothings that matter in what was read in the end and in what was shown."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name not in _IRRELEVANT:
                yield from _leaves(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _leaves(item, (*path, number))
    else:
        yield path


def _mutated(name: Any, value: Any) -> Any:
    if str(name).endswith("_at"):
        return time_of(-1e6)
    match value:
        case None:
            return _SOMETHING if name in ("usage", "error", "message") else "something"
        case str():
            return value[:-1] + ("1" if value.endswith("0") else "0")
        case bool():
            return not value
        case _:
            return value - 7


def _mutations() -> list[tuple[int, tuple[Any, ...]]]:
    """Of every record that tells a final state, and of every event: (number of the record, path)."""
    found: list[tuple[int, tuple[Any, ...]]] = []
    for number, record in enumerate(valid_history().records):
        if isinstance(record, Exchange) and record.final:
            found += [(number, ("body", *path)) for path in _leaves(record.body)]
        elif isinstance(record, Connection):
            for n, event in enumerate(record.events):
                if event.name == "message.reset":
                    continue  # that there is one matters
                found += [(number, ("events", n, "data", *path)) for path in _leaves(event.data)]
    return found


def _mutate(history: History, number: int, path: tuple[Any, ...]) -> None:
    target: Any = history.records[number]
    *way, last = path
    for step in way:
        target = target[step] if isinstance(target, dict | list) else getattr(target, step)
    target[last] = _mutated(last, target[last])


@pytest.mark.parametrize("number", sorted({number for number, _ in _mutations()}))
def test_every_change_of_what_was_shown_or_stored_is_noticed(number: int) -> None:
    unnoticed = []
    for record, path in _mutations():
        if record == number:
            history = valid_history()
            _mutate(history, record, path)
            if not check(history):
                unnoticed.append(path)
    assert unnoticed == []


@given(st.data())
def test_a_piece_that_is_lost_doubled_or_moved_is_noticed(data: st.DataObject) -> None:
    history = valid_history()
    events = view_of(history, data.draw(st.sampled_from(["one", "two", "five", "eight"]))).events
    taken_back = max((n for n, event in enumerate(events) if event.name == "message.reset"), default=0)
    places = [n for n, event in enumerate(events) if event.name == "message.delta" and n > taken_back]
    place = data.draw(st.sampled_from(places))
    match data.draw(st.sampled_from(["lost", "doubled", "moved", "cut"])):
        case "lost":
            del events[place]
        case "doubled":
            events.insert(place, events[place]._replace(id="another"))
        case "moved":
            other = data.draw(st.sampled_from([n for n in places if events[n].data != events[place].data]))
            events[place], events[other] = events[other], events[place]
        case _:
            text = events[place].data["delta"]
            at = data.draw(st.integers(0, len(text) - 1))
            events[place] = events[place]._replace(data={"delta": text[:at] + text[at + 1 :]})
    assert "2 text" in rules(history)


# The record itself, and its figures


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    history = valid_history()
    history.add(Oddity("user-a", "one", 1.0, "\x00 \u2028 😀"))
    history.write(tmp_path / "history.jsonl")
    assert History.read(tmp_path / "history.jsonl") == history


def test_figures_count_what_was_done() -> None:
    found = figures(valid_history())
    assert (found["turns"], found["acknowledged"]) == (9, 8)
    assert (found["completed"], found["failed"], found["cancelled"]) == (5, 2, 1)
    assert found["failed_by_code"] == {"model_error": 1, "conversation_busy": 1}
    assert (found["views"], found["streams_resumed"], found["reconnects"], found["resets"]) == (6, 1, 1, 1)
    assert found["lost"] == found["duplicated"] == found["wrong_order"] == found["cross_user"] == 0
    assert found["violations"] == {}
    assert found["first_text_seconds"] == {"n": 4, "p50": 0.16, "p95": 0.16, "p99": 0.16}
    assert found["usage"]["uncounted_completions"] == 0


def test_figures_tell_the_longest_pause_and_whose_work_it_was() -> None:
    history = valid_history()
    connection = view_of(history, "five")
    connection.events = [e._replace(at=e.at + 20 if n > 2 else e.at) for n, e in enumerate(connection.events)]
    history.add(Fault("freeze", "gateway-1", 8.0, 12.0))
    history.add(Fault("outage", "all", 100.0, 110.0))
    found = figures(history)
    began = round(connection.events[2].at, 3)
    assert (found["longest_pause"]["seconds"], found["longest_pause"]["began"]) == (20.01, began)
    assert found["longest_pause"]["time"].startswith("2026-01-01T00:00:05.")
    assert found["longest_pause_by_fault"]["freeze"] == found["longest_pause"]
    assert found["longest_pause_by_fault"]["kill"]["seconds"] == 20.01
    assert found["longest_pause_by_fault"]["outage"] is None


def test_a_client_that_is_away_or_waits_its_turn_sees_no_pause() -> None:
    history = valid_history()
    queued = view_of(history, "five").events[0]._replace(name="turn.queued", data={"position": 1})
    view_of(history, "five").events[0] = queued
    later = view_of(history, "one", 1)
    later.began += 30
    later.events = [event._replace(at=event.at + 30) for event in later.events]
    shifted = view_of(history, "five")
    shifted.events[1:] = [event._replace(at=event.at + 30) for event in shifted.events[1:]]
    assert figures(history)["longest_pause"]["seconds"] < 1


def test_uncounted_completions_are_a_figure_and_no_violation() -> None:
    history = valid_history()
    billed = history.bills[-1].by_message[ask(history, "five").message]
    billed.append(dict(billed[0]))
    assert check(history) == []
    assert figures(history)["usage"]["uncounted_completions"] == 1
