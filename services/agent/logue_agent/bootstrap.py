"""The only place where the agent's resources are built."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from logue_agent.context import ContextCache
from logue_agent.lanes import Lanes
from logue_agent.model import Model
from logue_agent.runner import Runner
from logue_agent.settings import AgentSettings
from logue_agent.store import Store
from logue_agent.subscriber import Subscriber
from logue_common.clock import Clock, utc_now
from logue_common.dead_letters import DeadLetters
from logue_common.errors import StartupError
from logue_common.loop_delay import LoopDelay
from logue_common.producer import Producer

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything that lives as long as the process."""

    settings: AgentSettings
    frames: Producer
    events: Producer
    subscriber: Subscriber


@asynccontextmanager
async def open_resources(settings: AgentSettings, clock: Clock = utc_now) -> AsyncIterator[Resources]:
    """Build, start, and in the end drain and close."""
    options = settings.client_options()
    frames = Producer(options, client_id="logue-agent-frames")
    events = Producer(options, client_id="logue-agent-events")
    frames.start()
    events.start()
    model = Model(settings)
    store = Store(
        settings.conversation_url, settings.internal_token.get_secret_value(), settings.agent_context_wait_seconds
    )
    cache = ContextCache(settings.agent_cache_characters)
    delay = LoopDelay()
    runner = Runner(
        settings, frames=frames, events=events, model=model, store=store, cache=cache, clock=clock, delay=delay
    )
    dead_letters = DeadLetters(Producer(options, client_id="logue-agent-dlq"), consumer="agent")
    subscriber = Subscriber(settings, Lanes(runner, frames, cache, clock), cache, dead_letters)
    consuming = asyncio.create_task(subscriber.run(), name="subscriber")
    consuming.add_done_callback(_end_process_on_failure)
    checkpoints = asyncio.create_task(runner.checkpoint_forever(), name="checkpoints")
    checkpoints.add_done_callback(_end_process_on_failure)
    delay.start()
    try:
        yield Resources(settings, frames, events, subscriber)
    finally:
        await subscriber.stop()
        checkpoints.cancel()
        await asyncio.gather(consuming, checkpoints, delay.stop(), return_exceptions=True)
        await asyncio.gather(frames.close(), events.close(), dead_letters.close(), model.close(), store.close())


def _end_process_on_failure(consuming: asyncio.Task[None]) -> None:
    """An agent that does half its work must not look alive."""
    failure = None if consuming.cancelled() else consuming.exception()
    if failure is not None:
        sentence = str(failure) if isinstance(failure, StartupError) else f"The task {consuming.get_name()} failed."
        _log.critical("agent_stops", detail=sentence, exc_info=None if isinstance(failure, StartupError) else failure)
        os.kill(os.getpid(), signal.SIGTERM)
