"""Acts on what the partitions decide: starts and stops turns, sends frames, keeps the cache true."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime

import structlog

from logue_agent import metrics
from logue_agent.actions import Abandon, Action, Attach, Decide, End, Queued, Refuse, Repeat, Run, Stop
from logue_agent.context import ContextCache
from logue_agent.frame_writer import FrameWriter, send_frame
from logue_agent.outcomes import Progress, outcome_of
from logue_agent.runner import Runner
from logue_agent.turn import Turn, TurnState
from logue_common.clock import Clock
from logue_common.errors import problem
from logue_common.events import ChatReplied, ChatRequested
from logue_common.frames import ATTACH, REFUSED, FrameHeader, end_frame, failed_body, sse_data
from logue_common.producer import Producer
from logue_common.tracing import exemplar_of

_log = structlog.get_logger(__name__)


class Lanes:
    """The running work of this process. `perform` never waits for a turn."""

    def __init__(self, runner: Runner, frames: Producer, cache: ContextCache, clock: Clock) -> None:
        self._runner = runner
        self._frames = frames
        self._cache = cache
        self._clock = clock
        self._tasks: dict[Turn, asyncio.Task[None]] = {}
        self._draining = False

    async def perform(self, actions: list[Action]) -> None:
        """Carry out `actions` in their order. Waits at most for room in the producer's buffer."""
        for action in actions:
            match action:
                case Run(turn):
                    if not self._draining:
                        self._start(turn, self._runner.run(turn))
                case Decide(turn, cause):
                    if turn.taken_over:
                        await FrameWriter(self._frames, turn).reset(
                            "The answer that another agent had begun ends here."
                        )
                    outcome = outcome_of(
                        turn, Progress(), "cancelled" if cause is None else "failed", self._clock(), error=cause
                    )
                    self._start(turn, self._runner.propose(turn, outcome))
                case Stop(turn) | Abandon(turn):
                    self._stop(turn)
                case Queued(turn, position):
                    await FrameWriter(self._frames, turn).queued(position)
                case End(request, outcome):
                    _count(action)
                    self._cache.decided(request, outcome)
                    await self._end(request, outcome)
                case Repeat(request, outcome):  # not to the cache: later turns have followed this one
                    metrics.REPEATED.inc()
                    await self._end(request, outcome)
                case Attach(request, live):
                    metrics.REPEATED.inc()
                    value = sse_data({} if live is None else {"partition": live.partition, "offset": live.offset})
                    await self._answer(request, ATTACH, value)
                case Refuse(request, cause):
                    await self._answer(request, REFUSED, sse_data(failed_body(request.turn_id, cause)))

    def propose_again(self, turn: Turn) -> None:
        """Write a proposed outcome once more: the log does not show it."""
        if turn not in self._tasks and turn.proposed is not None:
            metrics.REPROPOSED.inc()
            outcome = turn.proposed
            self._start(turn, self._runner.propose(turn, outcome))

    def abandon(self, turns: list[Turn]) -> None:
        """Let go of the turns of lost partitions, at once: they can act no more."""
        for turn in turns:
            turn.cancel_requested, turn.lost = False, True
            self._stop(turn)

    @property
    def is_busy(self) -> bool:
        """True while any turn is at work."""
        return bool(self._tasks)

    def drain(self) -> None:
        """Start no turn any more; what runs goes on."""
        self._draining = True

    async def hand_over(self, finishes_by: datetime) -> bool:
        """Tell the next owners which turns are finished here, and let go of the others.

        False when the log did not take that; then the next owners wait for none.
        """
        going_on = [
            turn
            for turn in self._tasks
            if turn.state is TurnState.DECIDING or (turn.state is TurnState.RUNNING and turn.begun)
        ]
        told = await asyncio.gather(*(self._runner.goes_on(turn, finishes_by) for turn in going_on))
        if not all(told):
            await self._tell_given_up([turn for turn in going_on if turn.state is not TurnState.WAITING])
            return False
        self.abandon([turn for turn in self._tasks if turn not in going_on])
        return True

    async def give_up(self) -> None:
        """Let go of what is still at work here, and tell the next owners that they need not wait any more."""
        turns = list(self._tasks)
        self.abandon(turns)
        await self._tell_given_up(turns)

    async def _tell_given_up(self, turns: list[Turn]) -> None:
        await asyncio.gather(*(self._runner.goes_on(turn, self._clock()) for turn in turns))

    def _start(self, turn: Turn, work: Coroutine[None, None, None]) -> None:
        self._stop(turn)
        if turn.lost:  # while its actions waited for room
            work.close()
            return
        task = asyncio.create_task(work, name=turn.turn_id)
        self._tasks[turn] = task
        task.add_done_callback(lambda done: self._done(turn, done))

    def _stop(self, turn: Turn) -> None:
        task = self._tasks.get(turn)
        if task is not None:
            task.cancel()

    def _done(self, turn: Turn, task: asyncio.Task[None]) -> None:
        if self._tasks.get(turn) is not task:
            return  # another attempt has begun
        del self._tasks[turn]
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            _log.error("turn_crashed", correlation_id=turn.turn_id, exc_info=failure)
        if turn.state is not TurnState.RUNNING or (failure is None and not turn.cancel_requested):
            return
        # It ended without an outcome: by a defect, or stopped before its first step.
        cause = problem("internal_error", "The answer failed for an internal reason. Send the message again.")
        outcome = outcome_of(
            turn, Progress(), "failed" if failure else "cancelled", self._clock(), error=cause if failure else None
        )
        self._start(turn, self._runner.propose(turn, outcome))

    async def _end(self, request: ChatRequested, outcome: ChatReplied) -> None:
        kind, value = end_frame(outcome)
        header = FrameHeader(request.user_id, outcome.attempt, outcome.n, kind)
        await send_frame(self._frames, request, header, value)

    async def _answer(self, request: ChatRequested, kind: str, value: bytes) -> None:
        header = FrameHeader(request.user_id, 0, 0, kind, request.reply_to.request_id)
        await send_frame(self._frames, request, header, value)


def _count(end: End) -> None:
    """What metrics and the log say of a decided turn."""
    if end.again:
        metrics.REPEATED.inc()
        return
    request, outcome = end.request, end.outcome
    code = "" if outcome.error is None else outcome.error.code
    seconds = (outcome.finished_at - request.requested_at).total_seconds()
    metrics.TURNS.labels(outcome.status, code).inc()
    metrics.TURN_SECONDS.labels(outcome.status).observe(seconds, exemplar_of(end.traceparent))
    _log.info(
        "turn_decided",
        correlation_id=request.turn_id,
        user_id=request.user_id,
        conversation_id=request.conversation_id,
        status=outcome.status,
        code=code or None,
        attempt=outcome.attempt,
        model=outcome.model,
        tokens=outcome.usage.total_tokens if outcome.usage is not None else None,
        seconds=round(seconds, 4),
    )
