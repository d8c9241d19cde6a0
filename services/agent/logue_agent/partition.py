"""All that the owner of one partition knows and decides. No I/O: records go in, actions come out.

The rules are those of DESIGN.md, "Owning a partition": strict order within a conversation, the first outcome in the log
decides, a decided turn never runs again, queue limits and `on_busy` are decided when the record arrives.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from logue_agent.actions import Abandon, Action, Attach, Decide, End, Queued, Refuse, Repeat, Run, Stop
from logue_agent.prefix import FinishedPrefix, Positions
from logue_agent.turn import Turn, TurnState
from logue_agent.unmatched import Unmatched
from logue_common.errors import Problem, problem
from logue_common.events import AttemptStarted, ChatCancelRequested, ChatReplied, ChatRequested
from logue_common.topics import CHAT_CANCELS, CHAT_PROGRESSED, CHAT_REPLIED, CHAT_REQUESTED

SIDE_TOPICS = (CHAT_CANCELS, CHAT_PROGRESSED, CHAT_REPLIED)

#: Turns that may wait in one conversation behind the running one.
MAX_WAITING = 16
#: Decided turns that are recognised when they are requested again: more than two minutes of full load on a partition.
MAX_DECIDED = 4_000
#: Of the latest keyed ones the outcome is kept too; for the others the store is asked.
MAX_OUTCOME_CHARACTERS = 2_000_000
#: A turn that its former owner finishes is waited for no longer than this, whatever the clocks say.
MAX_HOLD_SECONDS = 60.0
#: An outcome beside its text, as measured.
_OUTCOME_OVERHEAD = 4_000


@dataclass(slots=True)
class _Decided:
    """A turn with an outcome: enough to recognise a retry, and the outcome itself while there is room."""

    user_id: str
    request_id: str
    fingerprint: str | None
    outcome: ChatReplied | None


class OwnedPartition:
    """One partition of the four co-partitioned topics.

    `next_attempt` gives the attempt id for a turn of which attempts up to its argument are known.
    """

    def __init__(self, number: int, next_offset: int, positions: Positions, next_attempt: Callable[[int], int]) -> None:
        self.number = number
        self.positions = dict(positions)
        self.prefix = FinishedPrefix(next_offset)
        self.turns: dict[str, Turn] = {}
        #: A record came at an offset that was read before: the log lost its tail and uses its offsets again.
        self.rewound = False
        #: A record named another user or conversation than others of its turn or lane: it was ignored, or refused.
        self.mismatched = False
        #: Another process has begun a turn that is here: nothing begins until the group has confirmed us.
        self.contested = False
        #: What was to be decided while it was contested.
        self._postponed: list[Decide] = []
        self._next_attempt = next_attempt
        self._lanes: dict[str, deque[Turn]] = {}
        self._unmatched = Unmatched()
        self._decided: OrderedDict[str, _Decided] = OrderedDict()
        self._with_outcome: deque[_Decided] = deque()
        self._outcome_characters = 0
        self._deleted: OrderedDict[tuple[str, str], None] = OrderedDict()

    # --- records -----------------------------------------------------------------------------------------------------

    def requested(
        self, offset: int, request: ChatRequested, *, refusal: Problem | None = None, traceparent: bytes | None = None
    ) -> list[Action]:
        """A chat.requested record, in partition order. With `refusal` the turn fails at once if it is a new one."""
        if not self.prefix.fetched(offset, self._unmatched.hold_back(self.positions)):
            self.rewound = True
            return []
        if request.turn_id in self.turns or request.turn_id in self._decided:
            self.prefix.finish(offset)
            return self._known_again(request)
        said = self._unmatched.of(request.turn_id)
        seen = [event for event in said if _is_about(event, request)]
        self.mismatched = self.mismatched or len(seen) < len(said)
        if request.fingerprint is None:
            self._unmatched.drop(request.turn_id)
        outcome = next((event for event in seen if isinstance(event, ChatReplied)), None)
        if outcome is not None:
            self.prefix.finish(offset)
            self._remember(request, outcome)
            return [End(request, outcome, again=True)]
        attempts = [event for event in seen if isinstance(event, AttemptStarted)]
        last = max(reversed(attempts), key=_recency, default=None)
        turn = Turn(
            request,
            self.number,
            offset,
            self._next_attempt(0 if last is None else last.attempt),
            traceparent=traceparent,
            finishes_by=None if last is None else last.finishes_by,
            taken_over=last is not None,
        )
        turn.cancel_requested = any(isinstance(event, ChatCancelRequested) for event in seen)
        return self._arrive(turn, refusal)

    def unreadable(self, topic: str, offset: int) -> None:
        """A record that cannot be decoded and is in the dead-letter queue: it is finished."""
        if topic != CHAT_REQUESTED:
            self._advance(topic, offset)
        elif self.prefix.fetched(offset, self._unmatched.hold_back(self.positions)):
            self.prefix.finish(offset)

    def cancel_requested(self, offset: int, event: ChatCancelRequested, now: float) -> list[Action]:
        """A chat.cancels record."""
        if not self._advance(CHAT_CANCELS, offset):
            return []
        if event.turn_id is None:
            self._deleted[event.user_id, event.conversation_id] = None
            while len(self._deleted) > MAX_DECIDED:
                self._deleted.popitem(last=False)
            return [
                action for turn in list(self._lanes.get(event.conversation_id, ())) for action in self._cancel(turn)
            ]
        turn = self.turns.get(event.turn_id)
        if turn is not None:
            if _is_about(event, turn.request):
                return self._cancel(turn)
            self.mismatched = True
            return []
        if event.turn_id not in self._decided:
            self._unmatched.add(event.turn_id, CHAT_CANCELS, offset, event, now)
        return []

    def attempt_started(self, offset: int, event: AttemptStarted, now: float) -> list[Action]:
        """A chat.progressed record. A later attempt than ours on a turn of ours: another owner had it, or has it.

        Whoever is the owner begins it anew (`confirmed`). Of a turn that its former owner finishes: that it will not.
        """
        if not self._advance(CHAT_PROGRESSED, offset):
            return []
        turn = self.turns.get(event.turn_id)
        if turn is None:
            if event.turn_id not in self._decided:
                self._unmatched.add(event.turn_id, CHAT_PROGRESSED, offset, event, now)
            return []
        if not _is_about(event, turn.request):
            self.mismatched = True
            return []
        if turn.finishes_by is not None and event.finishes_by is not None and event.finishes_by < turn.finishes_by:
            turn.finishes_by = None  # its former owner gave up
            return self._start_head(turn.conversation_id)
        ran = turn.state is TurnState.RUNNING
        # What waits has not been announced here: an attempt of the same number is another's, too. One that is being
        # stopped has its outcome on the way.
        latest_of_ours = turn.attempt if ran else turn.attempt - 1
        if event.attempt <= latest_of_ours or turn.state is TurnState.DECIDING or turn.cancel_requested:
            return []
        turn.attempt, turn.n, turn.taken_over, turn.begun = self._next_attempt(event.attempt), 0, True, False
        turn.finishes_by, turn.held_since = event.finishes_by, None
        turn.state = TurnState.WAITING
        self.contested = True
        return [Abandon(turn)] if ran else []

    def confirmed(self) -> list[Action]:
        """The group says that this partition is ours: go on."""
        self.contested = False
        stopped = [turn for turn in self.turns.values() if turn.cancel_requested and turn.state is TurnState.WAITING]
        for turn in stopped:
            turn.state = TurnState.DECIDING
        postponed = [decide for decide in self._postponed if decide.turn.turn_id in self.turns]
        self._postponed.clear()
        starts = [action for conversation_id in list(self._lanes) for action in self._start_head(conversation_id)]
        return [*postponed, *(Decide(turn, None) for turn in stopped), *starts]

    def replied(self, offset: int, outcome: ChatReplied, now: float) -> list[Action]:
        """A chat.replied record. The first of a turn decides, whoever wrote it; later ones are ignored."""
        if not self._advance(CHAT_REPLIED, offset) or outcome.turn_id in self._decided:
            return []
        turn = self.turns.get(outcome.turn_id)
        if turn is None:
            self._unmatched.add(outcome.turn_id, CHAT_REPLIED, offset, outcome, now)
            return []
        if not _is_about(outcome, turn.request):
            self.mismatched = True
            return []
        if turn.request.fingerprint is not None:
            self._unmatched.add(turn.turn_id, CHAT_REPLIED, offset, outcome, now)
        return self._decide(turn, outcome)

    # --- commits -----------------------------------------------------------------------------------------------------

    def commit_point(self) -> tuple[int, Positions]:
        """What to commit: the offset of chat.requested, and those of the side topics."""
        return self.prefix.commit_point(self._unmatched.hold_back(self.positions))

    def stuck(self, proposed_before: float) -> list[Turn]:
        """Turns whose outcome was proposed before that loop time and has not come back from the log."""
        return [
            turn for turn in self.turns.values() if turn.proposed is not None and turn.proposed_at < proposed_before
        ]

    def overdue(self, now: datetime, at: float) -> list[Action]:
        """Begin the turns that their former owners should have finished by `now`. `at`: in monotonic seconds."""
        actions: list[Action] = []
        for turn in self.turns.values():
            if turn.finishes_by is not None and turn.state is TurnState.WAITING:
                turn.held_since = at if turn.held_since is None else turn.held_since
                if now >= turn.finishes_by or at >= turn.held_since + MAX_HOLD_SECONDS:
                    turn.finishes_by = None
                    actions += self._start_head(turn.conversation_id)
        return actions

    def caught_up(self, at: float) -> None:
        """chat.requested was read to its end at this time (monotonic seconds)."""
        self._unmatched.expire(at)

    @property
    def lane_depths(self) -> Iterable[int]:
        """How many turns each conversation has here."""
        return map(len, self._lanes.values())

    # --- lanes -------------------------------------------------------------------------------------------------------

    def _arrive(self, turn: Turn, refusal: Problem | None) -> list[Action]:
        request = turn.request
        lane = self._lanes.setdefault(request.conversation_id, deque())
        self.turns[turn.turn_id] = turn
        actions: list[Action] = []
        self.mismatched = self.mismatched or bool(lane and lane[0].request.user_id != request.user_id)
        refusal = refusal or _refusal(request, lane)
        if refusal is not None or turn.cancel_requested or (request.user_id, request.conversation_id) in self._deleted:
            # It never waits: beside the lane, so that its outcome need not wait for the turns before it.
            self._drop_empty_lane(request.conversation_id)
            turn.state = TurnState.DECIDING
            if self.contested:  # by a lane that may be an old one
                self._postponed.append(Decide(turn, refusal))
                return []
            return [Decide(turn, refusal)]
        if request.on_busy == "interrupt":
            actions += [action for other in list(lane) for action in self._cancel(other)]
        lane.append(turn)
        if lane[0] is turn:
            return [*actions, *self._start_head(request.conversation_id)]
        return actions if self.contested else [*actions, Queued(turn, self._position(turn))]

    def _start_head(self, conversation_id: str) -> list[Action]:
        lane = self._lanes.get(conversation_id)
        if self.contested or not lane or lane[0].state is not TurnState.WAITING or lane[0].finishes_by is not None:
            return []
        lane[0].state = TurnState.RUNNING
        return [Run(lane[0])]

    def _cancel(self, turn: Turn) -> list[Action]:
        if turn.cancel_requested or turn.state is TurnState.DECIDING:
            return []
        turn.cancel_requested = True
        if turn.state is TurnState.RUNNING:
            return [Stop(turn)]
        if self.contested:
            return []  # if another has it, that one knows its text; `confirmed` decides it otherwise
        turn.state = TurnState.DECIDING
        return [Decide(turn, None)]

    def _decide(self, turn: Turn, outcome: ChatReplied) -> list[Action]:
        actions: list[Action] = []
        if turn.state is not TurnState.WAITING:
            actions.append(Abandon(turn))
        actions.append(End(turn.request, outcome, traceparent=turn.traceparent))
        del self.turns[turn.turn_id]
        self.prefix.finish(turn.offset)
        self._remember(turn.request, outcome)
        lane = self._lanes.get(turn.conversation_id)
        if lane is not None and turn in lane:
            lane.remove(turn)
            self._drop_empty_lane(turn.conversation_id)
            actions += self._start_head(turn.conversation_id)
            waiting = [other for other in lane if other.state is TurnState.WAITING and other.finishes_by is None]
            if not self.contested:
                actions += [Queued(other, self._position(other)) for other in waiting]
        return actions

    def _position(self, turn: Turn) -> int:
        return self._lanes[turn.conversation_id].index(turn)

    def _drop_empty_lane(self, conversation_id: str) -> None:
        if not self._lanes.get(conversation_id):
            self._lanes.pop(conversation_id, None)

    # --- known turns -------------------------------------------------------------------------------------------------

    def _known_again(self, request: ChatRequested) -> list[Action]:
        turn = self.turns.get(request.turn_id)
        known = _Decided(*_identity(turn.request), None) if turn is not None else self._decided[request.turn_id]
        user_id, request_id, fingerprint = _identity(request)
        if known.user_id == user_id and known.request_id == request_id:
            return []
        if known.user_id != user_id or known.fingerprint != fingerprint:
            detail = "This Idempotency-Key was used for another request body. Use a new key for a new request."
            return [Refuse(request, problem("idempotency_mismatch", detail))]
        if turn is not None:
            return [Attach(request, live=turn.request.reply_to)]
        return [Attach(request, live=None)] if known.outcome is None else [Repeat(request, known.outcome)]

    def _remember(self, request: ChatRequested, outcome: ChatReplied) -> None:
        keyed = request.fingerprint is not None  # nobody can ask for another one again
        decided = self._decided[request.turn_id] = _Decided(*_identity(request), outcome if keyed else None)
        if keyed:
            self._with_outcome.append(decided)
            self._outcome_characters += _characters(outcome)
        while self._outcome_characters > MAX_OUTCOME_CHARACTERS:
            self._forget_outcome()
        if len(self._decided) > MAX_DECIDED:
            _, oldest = self._decided.popitem(last=False)
            if self._with_outcome and self._with_outcome[0] is oldest:
                self._forget_outcome()

    def _forget_outcome(self) -> None:
        oldest = self._with_outcome.popleft()
        if oldest.outcome is not None:
            self._outcome_characters -= _characters(oldest.outcome)
            oldest.outcome = None

    def _advance(self, topic: str, offset: int) -> bool:
        if offset < self.positions.get(topic, 0):
            self.rewound = True
            return False
        self.positions[topic] = offset + 1
        return True


def _refusal(request: ChatRequested, lane: deque[Turn]) -> Problem | None:
    if lane and lane[0].request.user_id != request.user_id:
        return problem("conversation_not_found", "There is no such conversation. Start a new one.")
    if request.on_busy == "reject" and lane:
        return problem("conversation_busy", "The conversation is answering another message. Send this one afterwards.")
    if request.on_busy == "enqueue" and len(lane) > MAX_WAITING:
        detail = f"{MAX_WAITING} messages already wait in this conversation. Send this one when some are answered."
        return problem("conversation_busy", detail)
    return None


def _is_about(event: AttemptStarted | ChatCancelRequested | ChatReplied, request: ChatRequested) -> bool:
    return event.user_id == request.user_id and event.conversation_id == request.conversation_id


def _recency(event: AttemptStarted) -> tuple[int, bool]:
    return event.attempt, event.finishes_by is not None


def _identity(request: ChatRequested) -> tuple[str, str, str | None]:
    return request.user_id, request.reply_to.request_id, request.fingerprint


def _characters(outcome: ChatReplied) -> int:
    return _OUTCOME_OVERHEAD + (len(outcome.message.content) if outcome.message is not None else 0)
