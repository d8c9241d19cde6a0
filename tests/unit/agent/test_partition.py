from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from tests.unit.agent.events import NOW, cancelled, conversation, replied, requested, started

from logue_agent import partition
from logue_agent.actions import Abandon, Attach, Decide, End, Queued, Refuse, Repeat, Run, Stop
from logue_agent.partition import MAX_HOLD_SECONDS, MAX_WAITING, OwnedPartition
from logue_agent.turn import TurnState
from logue_agent.unmatched import GRACE_SECONDS
from logue_common.events import ChatReplied, ChatRequested, ReplyTo
from logue_common.topics import CHAT_CANCELS, CHAT_PROGRESSED, CHAT_REPLIED


class Owner:
    """Feeds one partition with records at consecutive offsets."""

    def __init__(self, generation: int = 1) -> None:
        self.partition = OwnedPartition(
            0, 0, {CHAT_CANCELS: 0, CHAT_PROGRESSED: 0, CHAT_REPLIED: 0}, lambda known: max(generation, known + 1)
        )

    def request(self, event: ChatRequested) -> list[Any]:
        return self.partition.requested(self.partition.prefix.next_offset, event)

    def cancel(self, request: ChatRequested, **fields: Any) -> list[Any]:
        return self.partition.cancel_requested(
            self.partition.positions[CHAT_CANCELS], cancelled(request, **fields), 0.0
        )

    def start(self, request: ChatRequested, attempt: int, finishes_by: datetime | None = None) -> list[Any]:
        return self.partition.attempt_started(
            self.partition.positions[CHAT_PROGRESSED], started(request, attempt, finishes_by), 0.0
        )

    def reply(self, outcome: ChatReplied) -> list[Any]:
        return self.partition.replied(self.partition.positions[CHAT_REPLIED], outcome, 0.0)

    @property
    def committable(self) -> int:
        return self.partition.commit_point()[0]


def test_first_turn_of_an_idle_conversation_runs_at_once() -> None:
    [run] = Owner().request(requested("1"))
    assert isinstance(run, Run)


def test_second_turn_waits_and_runs_when_the_first_is_decided() -> None:
    owner = Owner()
    first, second = requested("1"), requested("2")
    owner.request(first)
    [queued] = owner.request(second)
    assert isinstance(queued, Queued)
    assert queued.position == 1
    actions = owner.reply(replied(first))
    assert [type(action) for action in actions] == [Abandon, End, Run]
    assert actions[-1].turn.turn_id == second.turn_id


def test_conversations_do_not_wait_for_each_other() -> None:
    owner = Owner()
    assert isinstance(owner.request(requested("1", "a"))[0], Run)
    assert isinstance(owner.request(requested("2", "b"))[0], Run)


def test_the_first_outcome_decides_and_later_ones_are_ignored() -> None:
    owner = Owner()
    request = requested("1")
    owner.request(request)
    assert any(isinstance(action, End) for action in owner.reply(replied(request, "first")))
    assert owner.reply(replied(request, "second")) == []


def test_an_outcome_of_another_owner_abandons_the_running_turn() -> None:
    owner = Owner(generation=7)
    request = requested("1")
    [run] = owner.request(request)
    abandon, end = owner.reply(replied(request, "of a paused agent", attempt=5, n=9))
    assert isinstance(abandon, Abandon)
    assert abandon.turn is run.turn
    assert end.outcome.attempt == 5


def test_a_turn_that_was_decided_before_its_request_is_fetched_never_runs() -> None:
    owner = Owner()
    request = requested("1")
    assert owner.reply(replied(request)) == []
    [end] = owner.request(request)
    assert isinstance(end, End)
    assert owner.committable == 1


def test_a_cancel_before_its_request_is_fetched_decides_without_running() -> None:
    owner = Owner()
    request = requested("1")
    owner.cancel(request)
    [decide] = owner.request(request)
    assert isinstance(decide, Decide)
    assert decide.problem is None


def test_cancel_of_a_running_turn_stops_it_once() -> None:
    owner = Owner()
    request = requested("1")
    owner.request(request)
    [stop] = owner.cancel(request)
    assert isinstance(stop, Stop)
    assert owner.cancel(request) == []


def test_cancel_of_a_queued_turn_never_runs_it() -> None:
    owner = Owner()
    first, second, third = requested("1"), requested("2"), requested("3")
    for request in (first, second, third):
        owner.request(request)
    [decide] = owner.cancel(second)
    assert isinstance(decide, Decide)
    owner.reply(replied(second, status="cancelled", message=None))
    actions = owner.reply(replied(first))
    assert [action.turn.turn_id for action in actions if isinstance(action, Run)] == [third.turn_id]


def test_a_cancel_by_another_user_is_ignored() -> None:
    owner = Owner()
    request = requested("1")
    owner.request(request)
    assert owner.cancel(request, user_id="user-2") == []


def test_records_that_name_another_user_than_their_turn_are_told_apart() -> None:
    owner, request = Owner(generation=2), requested("1")
    owner.request(request)
    foreign = request.model_copy(update={"user_id": "user-2"})
    for record in (owner.start, owner.cancel):
        owner.partition.mismatched = False
        assert record(foreign, *([9] if record == owner.start else [])) == []
        assert owner.partition.mismatched
    owner.partition.mismatched = False
    assert owner.reply(replied(foreign)) == []
    assert owner.partition.mismatched
    early = requested("2")
    owner.reply(replied(early.model_copy(update={"user_id": "user-2"})))
    owner.partition.mismatched = False
    [queued] = owner.request(early)
    assert isinstance(queued, Queued), "an outcome of another user decides nothing"
    assert owner.partition.mismatched


def test_deleting_a_conversation_cancels_all_its_turns_and_those_to_come() -> None:
    owner = Owner()
    first, second = requested("1"), requested("2")
    owner.request(first)
    owner.request(second)
    kinds = [type(action) for action in owner.cancel(first, turn_id=None)]
    assert kinds == [Stop, Decide]
    [decide] = owner.request(requested("3"))
    assert isinstance(decide, Decide)


def test_reject_refuses_while_another_turn_is_there() -> None:
    owner = Owner()
    assert isinstance(owner.request(requested("1", on_busy="reject"))[0], Run)
    [decide] = owner.request(requested("2", on_busy="reject"))
    assert decide.problem.code == "conversation_busy"


def test_interrupt_cancels_what_runs_and_what_waits() -> None:
    owner = Owner()
    first, second, third = requested("1"), requested("2"), requested("3", on_busy="interrupt")
    owner.request(first)
    owner.request(second)
    stop, decide, queued = owner.request(third)
    assert (type(stop), type(decide), type(queued)) == (Stop, Decide, Queued)
    owner.reply(replied(second, status="cancelled", message=None))
    actions = owner.reply(replied(first, "part", status="cancelled"))
    assert [action.turn.turn_id for action in actions if isinstance(action, Run)] == [third.turn_id]


def test_at_most_sixteen_wait_in_one_conversation() -> None:
    owner = Owner()
    owner.request(requested("running"))
    for number in range(MAX_WAITING):
        assert isinstance(owner.request(requested(f"waits-{number}"))[0], Queued)
    [decide] = owner.request(requested("one too many"))
    assert decide.problem.code == "conversation_busy"


def test_a_retry_of_a_live_turn_is_told_where_it_streams() -> None:
    owner = Owner()
    request = requested("1", fingerprint="f")
    owner.request(request)
    again = requested("1", fingerprint="f", reply_to=ReplyTo(partition=3, offset=8, request_id="other"))
    [attach] = owner.request(again)
    assert isinstance(attach, Attach)
    assert attach.live == request.reply_to


def test_a_retry_of_a_decided_turn_gets_the_same_outcome() -> None:
    owner = Owner()
    request = requested("1", fingerprint="f")
    owner.request(request)
    owner.reply(replied(request, "the answer"))
    again = requested("1", fingerprint="f", reply_to=ReplyTo(partition=3, offset=8, request_id="other"))
    [repeat] = owner.request(again)
    assert isinstance(repeat, Repeat)
    assert repeat.request is again
    assert repeat.outcome.message.content == "the answer"


def test_another_body_under_the_same_key_is_refused_and_never_runs() -> None:
    owner = Owner()
    owner.request(requested("1", fingerprint="f"))
    again = requested("1", fingerprint="g", reply_to=ReplyTo(partition=3, offset=8, request_id="other"))
    [refuse] = owner.request(again)
    assert isinstance(refuse, Refuse)
    assert refuse.problem.code == "idempotency_mismatch"


def test_a_redelivered_record_changes_nothing() -> None:
    owner = Owner()
    request = requested("1")
    owner.request(request)
    assert owner.partition.requested(0, request) == []


def test_a_conversation_of_another_user_is_refused() -> None:
    owner = Owner()
    owner.request(requested("1"))
    [decide] = owner.request(requested("2", user_id="user-2"))
    assert decide.problem.code == "conversation_not_found"


def test_attempts_grow_with_every_takeover() -> None:
    owner = Owner(generation=2)
    request = requested("1")
    owner.start(request, attempt=4)
    [run] = owner.request(request)
    assert run.turn.attempt == 5
    assert run.turn.taken_over


def _handed_over(seconds: float = 20.0) -> tuple[Owner, ChatRequested]:
    """A new owner, of a turn that the former one finishes."""
    owner, request = Owner(generation=2), requested("1")
    owner.start(request, attempt=1)
    owner.start(request, attempt=1, finishes_by=NOW + timedelta(seconds=seconds))
    assert owner.request(request) == []
    return owner, request


def test_a_turn_that_its_former_owner_finishes_is_waited_for_and_the_next_one_follows() -> None:
    owner, request = _handed_over()
    [queued] = owner.request(requested("2"))
    assert isinstance(queued, Queued)
    assert isinstance(owner.request(requested("3", "b"))[0], Run), "others do not wait"
    assert owner.partition.overdue(NOW, 0.0) == []
    end, run = owner.reply(replied(request))
    assert isinstance(end, End)
    assert isinstance(run, Run)


def test_a_turn_that_its_former_owner_did_not_finish_in_time_begins_anew() -> None:
    owner, request = _handed_over(seconds=20)
    assert owner.partition.overdue(NOW + timedelta(seconds=19), 0.0) == []
    [run] = owner.partition.overdue(NOW + timedelta(seconds=20), 20.0)
    assert run.turn.turn_id == request.turn_id
    assert run.turn.taken_over
    assert run.turn.attempt == 2
    assert owner.partition.overdue(NOW + timedelta(seconds=21), 21.0) == []


def test_a_turn_that_its_former_owner_finishes_is_not_waited_for_longer_when_clocks_differ() -> None:
    owner, _ = _handed_over(seconds=86_400)
    assert owner.partition.overdue(NOW, 5.0) == []
    assert owner.partition.overdue(NOW, 5.0 + MAX_HOLD_SECONDS - 1) == []
    [run] = owner.partition.overdue(NOW, 5.0 + MAX_HOLD_SECONDS)
    assert isinstance(run, Run)


def test_a_turn_that_its_former_owner_finishes_is_not_said_to_wait() -> None:
    """A frame of a new attempt would take back what the former owner shows."""
    owner, _ = _handed_over()
    second = requested("2")
    owner.request(second)
    owner.cancel(second)
    assert [type(action) for action in owner.reply(replied(second, status="cancelled"))] == [Abandon, End]


def test_a_turn_that_its_former_owner_gave_up_begins_anew_at_once() -> None:
    owner, request = _handed_over(seconds=20)
    [run] = owner.start(request, attempt=1, finishes_by=NOW + timedelta(seconds=19))
    assert run.turn.taken_over
    assert owner.start(request, attempt=1, finishes_by=NOW + timedelta(seconds=18)) == [], "it runs here"


def test_the_last_word_of_a_former_owner_counts() -> None:
    owner, request = Owner(generation=2), requested("1")
    for seconds in (20, 5):
        owner.start(request, attempt=1, finishes_by=NOW + timedelta(seconds=seconds))
    assert owner.request(request) == []
    [run] = owner.partition.overdue(NOW + timedelta(seconds=6), 0.0)
    assert isinstance(run, Run)


def test_a_turn_that_its_former_owner_finishes_can_be_stopped() -> None:
    owner, request = _handed_over()
    [decide] = owner.cancel(request)
    assert isinstance(decide, Decide)
    assert decide.turn.taken_over, "so that what was shown of it is taken back"
    assert owner.partition.overdue(NOW + timedelta(days=1), 1e6) == []


def test_nobody_waits_for_an_owner_after_whom_another_began() -> None:
    owner, request = Owner(generation=3), requested("1")
    owner.start(request, attempt=1, finishes_by=NOW + timedelta(seconds=20))
    owner.start(request, attempt=2)
    [run] = owner.request(request)
    assert isinstance(run, Run)


def test_commits_stop_at_the_first_unfinished_request() -> None:
    owner = Owner()
    requests = [requested(str(number), lane=str(number)) for number in range(4)]
    for request in requests:
        owner.request(request)
    for request in requests[1:]:
        owner.reply(replied(request))
    assert owner.committable == 0
    owner.reply(replied(requests[0]))
    assert owner.committable == 4


def test_side_positions_are_those_of_the_first_unfinished_request() -> None:
    owner = Owner()
    first, second = requested("1", "a"), requested("2", "b")
    owner.request(first)
    owner.request(second)
    owner.reply(replied(second))
    offset, positions = owner.partition.commit_point()
    assert (offset, positions[CHAT_REPLIED]) == (0, 0)
    owner.reply(replied(first))
    offset, positions = owner.partition.commit_point()
    assert (offset, positions[CHAT_REPLIED]) == (2, 2)


def test_what_was_said_about_a_request_still_to_come_is_never_committed_past() -> None:
    owner = Owner()
    early, late = requested("1", "a"), requested("2", "b")
    owner.cancel(late)
    owner.request(early)
    owner.reply(replied(early))
    assert owner.partition.commit_point()[1][CHAT_CANCELS] == 0


def test_records_about_turns_long_finished_stop_holding_commits_back() -> None:
    owner = Owner()
    owner.reply(replied(requested("gone")))
    assert owner.partition.commit_point()[1][CHAT_REPLIED] == 0
    owner.partition.caught_up(GRACE_SECONDS + 1)
    assert owner.partition.commit_point()[1][CHAT_REPLIED] == 1


def test_an_unreadable_request_does_not_hold_up_its_neighbours() -> None:
    owner = Owner()
    owner.partition.unreadable("chat.requested", 0)
    owner.request(requested("1"))
    assert owner.committable == 1
    assert [turn.state for turn in owner.partition.turns.values()] == [TurnState.RUNNING]
    assert conversation("a") == requested("1").conversation_id


def test_what_is_remembered_of_decided_turns_is_bounded() -> None:
    owner = Owner()
    for number in range(partition.MAX_DECIDED + 500):
        request = requested(str(number), fingerprint="same" if number % 2 else None)
        owner.request(request)
        owner.reply(replied(request))
    assert len(owner.partition._decided) == partition.MAX_DECIDED
    with_outcome = [turn for turn in owner.partition._decided.values() if turn.outcome is not None]
    assert len(with_outcome) == len(owner.partition._with_outcome) <= partition.MAX_OUTCOME_CHARACTERS / 4000
    assert all(turn.fingerprint == "same" for turn in with_outcome), "nobody can ask for another one again"
