"""A model of one partition that moves between owners; the log decides, whoever crashes, pauses or comes late."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.agent.events import NOW, cancelled, replied, requested, started

from logue_agent.actions import Action, Decide, End, Run, Stop
from logue_agent.partition import SIDE_TOPICS, OwnedPartition
from logue_agent.turn import Turn, TurnState
from logue_common.events import ChatReplied
from logue_common.topics import CHAT_CANCELS, CHAT_PROGRESSED, CHAT_REPLIED, CHAT_REQUESTED

LANES = ("a", "b", "c")


class Owner:
    """One agent's view: an OwnedPartition, and the work that it has in hand."""

    def __init__(self, log: dict[str, list[Any]], commits: dict[str, int], generation: int) -> None:
        self.log = log
        self.generation = generation
        self.partition = OwnedPartition(
            0,
            commits[CHAT_REQUESTED],
            {topic: commits[topic] for topic in SIDE_TOPICS},
            lambda known: max(generation, known + 1),
        )
        self.running: list[Turn] = []
        self.deciding: list[tuple[Turn, str]] = []
        self.runs: list[str] = []
        self.ended: list[tuple[str, str]] = []

    def read(self, topic: str, limit: int = 1_000_000) -> None:
        requests = topic == CHAT_REQUESTED
        for _ in range(limit):
            offset = self.partition.prefix.next_offset if requests else self.partition.positions[topic]
            if offset >= len(self.log[topic]):
                return
            event = self.log[topic][offset]
            if requests:
                self.act(self.partition.requested(offset, event))
            elif topic == CHAT_CANCELS:
                self.act(self.partition.cancel_requested(offset, event, 0.0))
            elif topic == CHAT_PROGRESSED:
                self.act(self.partition.attempt_started(offset, event, 0.0))
            else:
                self.act(self.partition.replied(offset, event, 0.0))

    def act(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Run(turn):
                    self.runs.append(turn.turn_id)
                    self.running.append(turn)
                    self.log[CHAT_PROGRESSED].append(started(turn.request, turn.attempt))
                case Decide(turn, cause):
                    self.deciding.append((turn, "cancelled" if cause is None else "failed"))
                case Stop(turn):
                    self.running.remove(turn)
                    self.deciding.append((turn, "cancelled"))
                case End(request, outcome):
                    self.ended.append((request.turn_id, outcome.status + str(outcome.attempt)))
                    self.running = [turn for turn in self.running if turn.turn_id != outcome.turn_id]
                    self.deciding = [pair for pair in self.deciding if pair[0].turn_id != outcome.turn_id]

    def propose(self, turn: Turn, status: str) -> None:
        turn.state = TurnState.DECIDING  # as the runner does
        self.log[CHAT_REPLIED].append(replied(turn.request, status=status, attempt=turn.attempt))


class Cluster(RuleBasedStateMachine):
    """Turns are requested and cancelled; owners read, finish out of order, commit, die, and wake up late."""

    turns = Bundle("turns")

    @initialize()
    def start(self) -> None:
        self.log: dict[str, list[Any]] = {topic: [] for topic in (CHAT_REQUESTED, *SIDE_TOPICS)}
        self.commits = dict.fromkeys(self.log, 0)
        self.generation = 0
        self.zombies: list[Owner] = []
        self.count = 0
        self.take_over()

    @rule(
        target=turns,
        lane=st.sampled_from(LANES),
        on_busy=st.sampled_from(["enqueue", "enqueue", "interrupt", "reject"]),
    )
    def request(self, lane: str, on_busy: str) -> Any:
        self.count += 1
        event = requested(str(self.count), lane, on_busy=on_busy, fingerprint="same")
        self.log[CHAT_REQUESTED].append(event)
        return event

    @rule(event=turns)
    def retry(self, event: Any) -> None:
        reply_to = event.reply_to.model_copy(update={"request_id": "retry"})
        self.log[CHAT_REQUESTED].append(event.model_copy(update={"reply_to": reply_to}))

    @rule(event=turns)
    def cancel(self, event: Any) -> None:
        self.log[CHAT_CANCELS].append(cancelled(event))

    @rule(topic=st.sampled_from([CHAT_REQUESTED, *SIDE_TOPICS]), limit=st.integers(1, 5))
    def fetch(self, topic: str, limit: int) -> None:
        self.owner.read(topic, limit)

    @precondition(lambda self: self.owner.running)
    @rule(data=st.data(), status=st.sampled_from(["completed", "completed", "failed"]))
    def finish_any(self, data: Any, status: str) -> None:
        turn = data.draw(st.sampled_from(self.owner.running))
        self.owner.running.remove(turn)
        self.owner.propose(turn, status)

    @precondition(lambda self: self.owner.deciding)
    @rule()
    def decide(self) -> None:
        turn, status = self.owner.deciding.pop(0)
        self.owner.propose(turn, status)

    @rule()
    def commit(self) -> None:
        offset, positions = self.owner.partition.commit_point()
        self.commits = {CHAT_REQUESTED: offset, **positions}

    @rule()
    def take_over(self) -> None:
        """The owner dies or is paused, and another one restores from the commits."""
        if self.generation:
            self.zombies.append(self.owner)
        self.generation += 1
        self.owner = Owner(self.log, self.commits, self.generation)
        self.decided_at_restore = {event.turn_id for event in self.log[CHAT_REPLIED]}
        for topic in SIDE_TOPICS:
            self.owner.read(topic)
        assert not self.owner.runs, "no lane starts before the restore is complete"

    @rule()
    def hand_over(self) -> None:
        """The owner leaves, and says that it finishes what runs."""
        going_on = {turn.turn_id for turn in self.owner.running}
        for turn in self.owner.running:
            self.log[CHAT_PROGRESSED].append(started(turn.request, turn.attempt, NOW + timedelta(seconds=20)))
        self.take_over()
        self.owner.read(CHAT_REQUESTED)
        decided = {event.turn_id for event in self.log[CHAT_REPLIED]}
        assert not going_on & set(self.owner.runs), "what goes on elsewhere is not begun here"
        assert going_on - decided <= set(self.owner.partition.turns)

    @rule()
    def time_passes(self) -> None:
        """Longer than anyone said to need."""
        self.owner.act(self.owner.partition.overdue(NOW + timedelta(seconds=30), 0.0))

    @precondition(lambda self: any(zombie.running for zombie in self.zombies))
    @rule(data=st.data())
    def a_paused_owner_wakes_and_answers(self, data: Any) -> None:
        zombie = data.draw(st.sampled_from([zombie for zombie in self.zombies if zombie.running]))
        zombie.propose(zombie.running.pop(0), "completed")

    @invariant()
    def commits_never_pass_unfinished_work(self) -> None:
        if not self.generation:
            return
        decided = {event.turn_id for event in self.log[CHAT_REPLIED]}
        undecided = [offset for offset, event in enumerate(self.log[CHAT_REQUESTED]) if event.turn_id not in decided]
        first_open = undecided[0] if undecided else len(self.log[CHAT_REQUESTED])
        assert self.commits[CHAT_REQUESTED] <= first_open

    @invariant()
    def what_was_decided_never_runs_again(self) -> None:
        if self.generation:
            assert not self.decided_at_restore & set(self.owner.runs)

    @invariant()
    def a_conversation_runs_one_turn_at_a_time_in_order(self) -> None:
        if not self.generation:
            return
        order = {event.turn_id: index for index, event in reversed(list(enumerate(self.log[CHAT_REQUESTED])))}
        lanes: dict[str, list[int]] = defaultdict(list)
        lane_of = {event.turn_id: event.conversation_id for event in self.log[CHAT_REQUESTED]}
        for turn_id in self.owner.runs:
            lanes[lane_of[turn_id]].append(order[turn_id])
        for positions in lanes.values():
            assert positions == sorted(positions)
        busy = [turn.conversation_id for turn in self.owner.running]
        assert len(busy) == len(set(busy))

    def teardown(self) -> None:
        """Left alone, the last owner brings every turn to its end, and shows the first outcome of each."""
        if not hasattr(self, "owner"):
            return
        for _ in range(10 * (self.count + 1)):
            for topic in (CHAT_REQUESTED, *SIDE_TOPICS):
                self.owner.read(topic)
            self.time_passes()
            while self.owner.running:
                self.owner.propose(self.owner.running.pop(0), "completed")
            while self.owner.deciding:
                self.owner.propose(*self.owner.deciding.pop(0))
        first: dict[str, ChatReplied] = {}
        for outcome in self.log[CHAT_REPLIED]:
            first.setdefault(outcome.turn_id, outcome)
        assert set(first) == {event.turn_id for event in self.log[CHAT_REQUESTED]}
        for turn_id, shown in self.owner.ended:
            assert shown == first[turn_id].status + str(first[turn_id].attempt)
        assert not self.owner.partition.turns
        offset, _ = self.owner.partition.commit_point()
        assert offset == len(self.log[CHAT_REQUESTED])


TestCluster = pytest.mark.filterwarnings("default")(Cluster.TestCase)
TestCluster.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
