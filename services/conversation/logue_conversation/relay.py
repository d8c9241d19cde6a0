"""Publishes the outbox, in order, one replica at a time, and deletes what the broker has.

The lock is an advisory one of a transaction, so that it works through a transaction pooler and dies with its holder.
The transaction lasts while the broker acknowledges (seconds at most); it holds nothing else that anyone waits for, and
a snapshot only while a statement runs. Delivery is at least once: a crash between acknowledgement and commit repeats
rows.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from aiokafka.errors import KafkaError
from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from logue_common.errors import LogueError
from logue_common.producer import DeliveryUnknownError, NotSentError, Producer
from logue_conversation import metrics
from logue_conversation.bulk import arrays, rows_of
from logue_conversation.database import Database
from logue_conversation.tables import outbox

#: Rows of one transaction.
_BATCH = 500
#: Another replica's rows, and rows left by a crash, are found at the latest after this.
_POLL_SECONDS = 0.5
_RETRY_SECONDS = 1.0
_ACK_SECONDS = 5.0
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtext('logue.outbox_relay'))")

_NEXT = select(outbox).order_by(outbox.c.id).limit(_BATCH)
_KEY = [outbox.c.user_id, outbox.c.id]
_published = rows_of(_KEY)
_DELETE = delete(outbox).where(outbox.c.user_id == _published.c.user_id, outbox.c.id == _published.c.id)

_log = structlog.get_logger(__name__)


class Relay:
    """Runs until `stop`."""

    def __init__(self, database: Database, producer: Producer) -> None:
        self._database = database
        self._producer = producer
        self._wake = asyncio.Event()
        self._stopping = False
        #: False while rows that this process added may still be in the outbox.
        self.is_through = True
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="outbox-relay")

    def wake(self) -> None:
        """Say that there may be rows."""
        self.is_through = False
        self._wake.set()

    async def stop(self) -> None:
        """Publish what is there, once, then end."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task

    async def publish_next(self) -> int:
        """Publish one batch; the number of rows, 0 also when another replica is at it. Raises to be tried again."""
        if not await self._producer.wait_connected(_ACK_SECONDS):
            raise NotSentError("Kafka cannot be reached.")
        return await self._database.as_nobody(self._publish)

    async def _run(self) -> None:
        while True:
            pause = _POLL_SECONDS
            self._wake.clear()
            try:
                count = await self.publish_next()
                self.is_through = count < _BATCH and not self._wake.is_set()
            except (KafkaError, LogueError) as error:
                metrics.RELAY_FAILURES.inc()
                _log.warning("outbox_waits", cause=str(error) or type(error).__name__)
                count, pause = 0, _RETRY_SECONDS
                self._wake.clear()
            if self._stopping:
                return
            if count < _BATCH:  # that was all there was; whoever adds some from now on wakes us
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause)

    async def _publish(self, connection: AsyncConnection) -> int:
        if not await connection.scalar(_TRY_LOCK):
            return 0
        rows = (await connection.execute(_NEXT)).all()
        if not rows:
            return 0
        deliveries = []
        for row in rows:
            headers = [(name, value.encode()) for name, value in row.headers]
            deliveries.append(await self._producer.enqueue(row.topic, key=row.key, value=row.value, headers=headers))
        _, missing = await asyncio.wait(deliveries, timeout=_ACK_SECONDS)
        failed = [delivery for delivery in deliveries if delivery.done() and delivery.exception() is not None]
        if missing:
            self._producer.replace()  # lest it sends them after all, behind later ones
        if missing or failed:
            raise DeliveryUnknownError("Kafka did not confirm all rows of the outbox.")
        await connection.execute(_DELETE, arrays(_KEY, ((row.user_id, row.id) for row in rows)))
        for row in rows:
            metrics.RELAYED.labels(row.topic).inc()
        return len(rows)
