"""Answers one turn: context, model, frames, outcome. What became of it is for the log to decide."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import structlog
from opentelemetry import trace

from logue_agent import metrics
from logue_agent.context import ContextCache
from logue_agent.frame_writer import FrameWriter
from logue_agent.model import Completion, Model, ModelFailedError
from logue_agent.model_call import model_call
from logue_agent.outcomes import Progress, outcome_of
from logue_agent.settings import AgentSettings
from logue_agent.store import Store
from logue_agent.trim import Line, trim
from logue_agent.turn import Turn, TurnState
from logue_common.clock import Clock
from logue_common.errors import ProblemError, problem
from logue_common.events import AttemptStarted, ChatReplied, Event, encode, event_headers
from logue_common.internal import StoredTurn, TurnContext
from logue_common.loop_delay import LoopDelay
from logue_common.producer import DeliveryUnknownError, NotSentError, Producer
from logue_common.topics import CHAT_PROGRESSED, CHAT_REPLIED, CHAT_REQUESTED
from logue_common.tracing import TRACER, SpanKind, exemplar, messaging, parent_of, traceparent

_log = structlog.get_logger(__name__)

SOURCE = "agent"
#: A live turn shows its text so far this often; readers that come late look at most 10 s back.
CHECKPOINT_SECONDS = 4.0
#: Attempts are announced together, this much later at most: one record of its own for each would cost a request, an
#: answer and a fetch. A turn that was answered meanwhile needs no announcement, since its outcome says it all.
ANNOUNCE_SECONDS = 0.1
_RESEND_SECONDS = 0.5
#: What the agent itself adds to a model's first text, in rounds of its event loop (counted with a loop that was kept
#: busy). Otherwise an agent with too much to do would look like a slow model.
_ROUNDS_OF_A_CALL = 3
#: A request that is older may have been decided before this lane knew of it; shorter than lanes remember keyed ones.
_FRESH = timedelta(seconds=60)


class Runner:
    """Runs turns. `frames` and `events` are separate producers, so that no token waits behind an outcome."""

    def __init__(
        self,
        settings: AgentSettings,
        *,
        frames: Producer,
        events: Producer,
        model: Model,
        store: Store,
        cache: ContextCache,
        clock: Clock,
        delay: LoopDelay,
    ) -> None:
        self._settings = settings
        self._frames = frames
        self._events = events
        self._model = model
        self._store = store
        self._cache = cache
        self._clock = clock
        self._delay = delay
        metrics.MODELS.admit(settings.agent_model)
        self._slots = asyncio.Semaphore(settings.agent_concurrency)
        self._streaming: set[FrameWriter] = set()
        #: By turn and attempt.
        self._unannounced: dict[tuple[str, int], tuple[AttemptStarted, str | None]] = {}
        self._announcing: asyncio.Task[None] | None = None

    async def run(self, turn: Turn) -> None:
        """Answer `turn` and propose the outcome to the log. Cancelled without `turn.cancel_requested`: says nothing."""
        place = {
            "messaging.destination.partition.id": str(turn.partition),
            "messaging.kafka.offset": turn.offset,
            "messaging.consumer.group.name": self._settings.agent_group,
            "logue.attempt": turn.attempt,
        }
        attributes = messaging("process", CHAT_REQUESTED, turn.turn_id, **place)
        parent = parent_of(turn.traceparent)
        with TRACER.start_as_current_span(f"process {CHAT_REQUESTED}", parent, SpanKind.CONSUMER, attributes):
            await self._run(turn)

    async def _run(self, turn: Turn) -> None:
        writer = FrameWriter(self._frames, turn)
        progress = Progress()
        attempt = turn.turn_id, turn.attempt
        try:
            outcome = await self._answer(turn, writer, progress)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            is_stopped = turn.cancel_requested and turn.attempt == attempt[1]  # else another's attempt came before that
            if not is_stopped or task is None:
                metrics.ABANDONED.inc()
                raise
            task.uncancel()
            await writer.flush()
            outcome = outcome_of(turn, progress, "cancelled", self._clock(), text=writer.text)
        except (ModelFailedError, ProblemError) as error:
            outcome = outcome_of(turn, progress, "failed", self._clock(), error=error.problem)
        finally:
            self._unannounced.pop(attempt, None)
            self._streaming.discard(writer)
            writer.close()
        await self.propose(turn, outcome)

    async def propose(self, turn: Turn, outcome: ChatReplied) -> None:
        """Write an outcome to the log, for as long as it takes."""
        turn.state = TurnState.DECIDING
        turn.proposed = outcome
        turn.proposed_at = asyncio.get_running_loop().time()
        # One that never ran has no span yet.
        parent = None if trace.get_current_span().get_span_context().is_valid else parent_of(turn.traceparent)
        attributes = messaging("send", CHAT_REPLIED, turn.turn_id, **{"logue.status": outcome.status})
        with TRACER.start_as_current_span(f"send {CHAT_REPLIED}", parent, SpanKind.PRODUCER, attributes):
            while not await self._publish(CHAT_REPLIED, outcome):
                await asyncio.sleep(_RESEND_SECONDS)

    async def goes_on(self, turn: Turn, finishes_by: datetime) -> bool:
        """Tell the next owner of the partition that this attempt is finished here. False: the log did not take that."""
        event = AttemptStarted(
            turn_id=turn.turn_id,
            user_id=turn.request.user_id,
            conversation_id=turn.conversation_id,
            attempt=turn.attempt,
            started_at=self._clock(),
            finishes_by=finishes_by,
        )
        return await self._publish(CHAT_PROGRESSED, event)

    async def checkpoint_forever(self) -> None:
        """Emit the checkpoints of all streaming turns when they are due."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS / 4)
            due = [writer for writer in self._streaming if writer.checkpoint_at + CHECKPOINT_SECONDS <= loop.time()]
            for writer in due:
                await writer.checkpoint()

    async def _answer(self, turn: Turn, writer: FrameWriter, progress: Progress) -> ChatReplied:
        request = turn.request
        if self._clock() - request.requested_at > timedelta(seconds=self._settings.agent_turn_expiry_seconds):
            detail = "The message waited too long for an answer. Send it again."
            raise ProblemError("turn_expired", detail)
        messages = await self._messages(turn, progress)
        if isinstance(messages, ChatReplied):
            return messages
        async with self._slots:
            self._begin(turn, progress)
            if turn.taken_over:
                await writer.reset("The answer starts over, since another agent has taken over.")
            completion = progress.completion = Completion(request.model or self._settings.agent_model)
            self._streaming.add(writer)
            with metrics.RUNNING.track_inprogress(), model_call(request, completion, messages) as call:

                async def say(piece: str) -> None:
                    if progress.first_token_at is None:
                        progress.first_token_at = self._clock()
                        model_seconds = call.first_token() - _ROUNDS_OF_A_CALL * self._delay.seconds
                        writer.model_ms = int(max(0.0, model_seconds) * 1000)
                        since = progress.first_token_at - request.requested_at
                        metrics.FIRST_TOKEN_SECONDS.observe(since.total_seconds(), exemplar())
                    await writer.say(piece)

                await self._model.answer(completion, messages, say)
        await writer.flush()
        return outcome_of(turn, progress, "completed", self._clock(), text=writer.text)

    async def _messages(self, turn: Turn, progress: Progress) -> list[bytes] | ChatReplied:
        """What the model gets; or the turn's outcome, when the store shows that it was decided long ago."""
        request = turn.request
        if request.verify or self._clock() - request.requested_at > _FRESH:
            # The gateway could not look the key up, or the record may be an old one that came once more. If the store
            # cannot tell, the lane knows: it keeps keyed outcomes for a while.
            context = await self._store.decided_or_context(request)
            if context is not None:
                return self._from_store(turn, progress, context)
        if request.new_conversation:
            # The outcome completes this entry: the next turn of the conversation needs no call either.
            self._cache.put(request.conversation_id, request.user_id, turn.partition, ends_in_leaf=True)
            return trim(Line(), request.content, self._settings.agent_context_tokens)
        entry = self._cache.get(request.conversation_id)
        if entry is not None:
            if entry.user_id != request.user_id:
                metrics.ISOLATION.inc()
                place = {"topic": CHAT_REQUESTED, "partition": turn.partition, "offset": turn.offset}
                _log.error("isolation_mismatch", correlation_id=turn.turn_id, **place)
                raise ProblemError("conversation_not_found", "There is no such conversation. Start a new one.")
            try:
                progress.parent_id = entry.parent_of_new(request.parent_id)
                path = entry.path(progress.parent_id)
                return trim(path, request.content, self._settings.agent_context_tokens)
            except KeyError:
                pass  # a branch that is not cached
        return self._from_store(turn, progress, await self._store.context(request))

    def _from_store(self, turn: Turn, progress: Progress, context: TurnContext) -> list[bytes] | ChatReplied:
        request = turn.request
        if context.decided is not None:
            # Turns have followed it since: what is cached of the conversation must not take it for the latest.
            self._cache.drop(request.conversation_id)
            return _repeated(turn, context.decided, context.parent_id)
        progress.parent_id = context.parent_id
        entry = self._cache.put(
            request.conversation_id,
            request.user_id,
            turn.partition,
            context.messages,
            ends_in_leaf=request.parent_id is None,
        )
        return trim(entry.path(context.parent_id), request.content, self._settings.agent_context_tokens)

    def _begin(self, turn: Turn, progress: Progress) -> None:
        """An attempt has its slot."""
        turn.begun = True
        progress.started_at = self._clock()
        # In the next round of the loop, when the model has its question: nothing pauses before.
        asyncio.get_running_loop().call_soon(self._tell_begun, turn, turn.attempt, progress.started_at)

    def _tell_begun(self, turn: Turn, attempt: int, now: datetime) -> None:
        """Tell the log, and whoever watches."""
        request = turn.request
        place = {"user_id": request.user_id, "conversation_id": request.conversation_id}
        self._announce(AttemptStarted(turn_id=turn.turn_id, **place, attempt=attempt, started_at=now))
        waited = (now - request.requested_at).total_seconds()
        metrics.QUEUE_WAIT_SECONDS.observe(waited, exemplar())
        _log.info(
            "attempt_started",
            correlation_id=turn.turn_id,
            **place,
            attempt=attempt,
            partition=turn.partition,
            offset=turn.offset,
            waited_seconds=round(waited, 4),
        )

    def _announce(self, event: AttemptStarted) -> None:
        """Publish soon. Nothing waits for it: it tells a later owner that text was shown, and readers that it runs."""
        metrics.ATTEMPTS.inc()
        self._unannounced[event.turn_id, event.attempt] = event, traceparent()
        if self._announcing is None or self._announcing.done():
            self._announcing = asyncio.create_task(self._announce_all(), name="announcements")

    async def _announce_all(self) -> None:
        await asyncio.sleep(ANNOUNCE_SECONDS)
        while self._unannounced:  # others may come while this waits for room
            event, cause = self._unannounced.pop(next(iter(self._unannounced)))
            headers = event_headers(event, source=SOURCE, at=self._clock(), traceparent=cause)
            try:
                await self._events.enqueue(
                    CHAT_PROGRESSED, key=event.conversation_id, value=encode(event), headers=headers
                )
            except NotSentError:
                _log.warning("attempt_not_announced", correlation_id=event.turn_id)

    async def _publish(self, topic: str, event: Event) -> bool:
        headers = event_headers(event, source=SOURCE, at=self._clock(), traceparent=traceparent())
        try:
            await self._events.send(topic, key=event.conversation_id, value=encode(event), headers=headers)
        except (NotSentError, DeliveryUnknownError) as error:
            _log.warning("event_not_confirmed", topic=topic, cause=str(error))
            return False
        return True


def _repeated(turn: Turn, stored: StoredTurn, parent_id: str | None) -> ChatReplied:
    """The outcome that the store already has, for the log of this partition: the lane did not know it any more."""
    return ChatReplied(
        turn_id=stored.turn_id,
        conversation_id=stored.conversation_id,
        user_id=turn.request.user_id,
        status=stored.status if stored.status in ("completed", "cancelled") else "failed",
        attempt=stored.attempt,
        n=stored.internal.n or 1,
        user_message_id=stored.internal.user_message_id,
        parent_id=parent_id,
        model=stored.internal.model,
        message=stored.message,
        usage=stored.usage,
        error=stored.error or (None if stored.message else problem("turn_lost", "The turn was lost. Send it again.")),
        started_at=stored.started_at,
        first_token_at=stored.first_token_at,
        finished_at=stored.finished_at or turn.request.requested_at,
    )
