"""What the gateway writes to Kafka: accepted turns, and intents to stop them."""

from __future__ import annotations

import asyncio

import structlog

from logue_common.clock import Clock
from logue_common.errors import ProblemError
from logue_common.events import ChatCancelRequested, ChatRequested, encode, event_headers
from logue_common.producer import DeliveryUnknownError, NotSentError, Producer
from logue_common.topics import CHAT_CANCELS, CHAT_REQUESTED
from logue_common.tracing import TRACER, SpanKind, messaging, traceparent
from logue_gateway import metrics
from logue_gateway.errors import AcceptUnknownError, unavailable
from logue_gateway.tasks import end

#: Cancels of unconfirmed turns that wait for the broker; one is some hundred bytes.
MAX_WAITING_CANCELS = 1000
_RETRY_SECONDS = 0.5

_log = structlog.get_logger(__name__)


class Publisher:
    """Publishes events; with the broker's acknowledgement they exist."""

    def __init__(self, producer: Producer, *, clock: Clock, timeout_seconds: float) -> None:
        self._producer = producer
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._waiting: asyncio.Queue[ChatCancelRequested] = asyncio.Queue(MAX_WAITING_CANCELS)
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Connect, and begin to deliver what waits."""
        self._producer.start()
        self._task = asyncio.create_task(self._deliver_waiting(), name="cancels")

    async def close(self) -> None:
        """Let go of the broker."""
        await end(self._task)
        await self._producer.close()

    async def request(self, event: ChatRequested) -> None:
        """The turn exists when this returns. Raises ProblemError `unavailable`, or AcceptUnknownError."""
        try:
            await self._send(CHAT_REQUESTED, event)
        except NotSentError as error:
            raise _away() from error
        except DeliveryUnknownError as error:
            raise AcceptUnknownError(event.turn_id) from error

    async def cancel(self, event: ChatCancelRequested) -> None:
        """The intent is durable when this returns. Raises ProblemError `unavailable`: ask again."""
        try:
            await self._send(CHAT_CANCELS, event)
        except (NotSentError, DeliveryUnknownError) as error:
            raise _away() from error

    def cancel_unconfirmed(self, event: ChatRequested) -> None:
        """Stop a turn of which nobody knows whether it was accepted, as soon as the broker is back."""
        cancel = ChatCancelRequested(
            user_id=event.user_id,
            conversation_id=event.conversation_id,
            turn_id=event.turn_id,
            reason="accept_unknown",
            requested_at=self._clock(),
        )
        try:
            self._waiting.put_nowait(cancel)
        except asyncio.QueueFull:
            metrics.CANCELS_GIVEN_UP.inc()
            _log.warning("cancel_given_up", correlation_id=event.turn_id)

    async def _deliver_waiting(self) -> None:
        while True:
            cancel = await self._waiting.get()
            while True:
                try:
                    await self._send(CHAT_CANCELS, cancel)
                    break
                except (NotSentError, DeliveryUnknownError):
                    await asyncio.sleep(_RETRY_SECONDS)

    async def _send(self, topic: str, event: ChatRequested | ChatCancelRequested) -> None:
        attributes = messaging("send", topic, event.turn_id)
        with TRACER.start_as_current_span(f"send {topic}", kind=SpanKind.PRODUCER, attributes=attributes):
            try:
                await self._producer.send(
                    topic,
                    key=event.conversation_id,
                    value=encode(event),
                    headers=event_headers(event, source="gateway", at=self._clock(), traceparent=traceparent()),
                    timeout_seconds=self._timeout_seconds,
                )
            except (NotSentError, DeliveryUnknownError) as error:
                metrics.PUBLISHED.labels(event.event_type, type(error).__name__).inc()
                raise
        metrics.PUBLISHED.labels(event.event_type, "ok").inc()


def _away() -> ProblemError:
    return unavailable("Messages cannot be accepted right now. Try again in a moment.")
