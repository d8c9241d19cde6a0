"""Letting go of Kafka clients."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

_STOP_SECONDS = 10.0

_log = structlog.get_logger(__name__)


class Stoppable(Protocol):
    """An aiokafka consumer, for instance."""

    async def stop(self) -> None:
        """Close the connections."""


async def stop_client(client: Stoppable) -> None:
    """Stop `client`, whatever becomes of it.

    In a task of its own: with a broker away, aiokafka lets the cancellation of its own fetches escape from `stop`,
    which would look like a cancellation of ours.
    """
    stopping = asyncio.create_task(client.stop())
    done, _ = await asyncio.wait({stopping}, timeout=_STOP_SECONDS)
    if not done:
        stopping.cancel()
        _log.warning("kafka_client_not_stopped")
    elif not stopping.cancelled() and stopping.exception() is not None:
        _log.warning("kafka_client_not_stopped", cause=type(stopping.exception()).__name__)
