"""Gives an aiokafka producer up at once, with everything that it still holds.

aiokafka has no public way: its `stop` delivers first, for as long as that takes. So this reaches into aiokafka 0.14;
tests/unit/common/test_producer.py holds it to what it promises.
"""

from __future__ import annotations

import asyncio
import contextlib

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

#: How long requests under way may take to notice that their connection is gone. They wait 0.1 s before a second try.
_SENDER_SECONDS = 0.5
#: How long connections may take to close.
_CLOSE_SECONDS = 2.0


async def abandon(producer: AIOKafkaProducer) -> None:
    """Close `producer`. What it has not delivered fails with KafkaError, and is not sent from here on."""
    producer._closed = True  # noqa: SLF001
    sender = producer._sender  # noqa: SLF001
    await _close_connections(producer)  # requests under way fail at once, so the sender has nothing to wait for
    _answer_metadata_waiters(producer)
    with contextlib.suppress(TimeoutError, KafkaError, OSError):
        async with asyncio.timeout(_SENDER_SECONDS):
            await sender.close()
    await _close_connections(producer)  # one that the sender opened meanwhile
    _fail_batches(producer)


async def _close_connections(producer: AIOKafkaProducer) -> None:
    with contextlib.suppress(TimeoutError, KafkaError, OSError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await producer.client.close()


def _answer_metadata_waiters(producer: AIOKafkaProducer) -> None:
    """Requests wait for fresh metadata before they are tried again, but nobody fetches any now."""
    client = producer.client
    waited_for = client._md_update_fut  # noqa: SLF001
    if waited_for is None or waited_for.done():
        waited_for = asyncio.get_running_loop().create_future()
        client._md_update_fut = waited_for  # noqa: SLF001
    waited_for.set_result(False)  # now and for ever


def _fail_batches(producer: AIOKafkaProducer) -> None:
    accumulator = producer._message_accumulator  # noqa: SLF001
    pending = accumulator._pending_batches  # noqa: SLF001
    # A failed batch takes itself off this set, but one that waits for a second try is not in it.
    pending.update(batch for batches in accumulator._batches.values() for batch in batches)  # noqa: SLF001
    batches = list(pending)
    accumulator.fail_all(KafkaError("this producer was replaced"))
    for batch in batches:
        drained = batch._drain_waiter  # noqa: SLF001
        if drained.done() and not drained.cancelled():
            drained.exception()  # taken: often nobody waits for it
