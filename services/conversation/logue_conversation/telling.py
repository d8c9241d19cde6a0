"""Tells the user's other tabs and devices, and the gateways, what the writer has stored.

The log is the outbox of these changes: what was told of a record is told again when the record is delivered again, and
its offset is committed only after that. So a turn costs neither rows nor a transaction of the relay (ADR 0021).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from logue_common.clock import Clock
from logue_common.events import encode, event_headers
from logue_common.producer import DeliveryUnknownError, NotSentError, Producer
from logue_common.topics import CONVERSATION_CHANGED
from logue_conversation import metrics, outbox
from logue_conversation.database import Database
from logue_conversation.projection import Change
from logue_conversation.relay import Relay

_SECONDS = 5.0
#: After a failure all changes take the way through the outbox, where they hold nobody up: so long, and until that is
#: empty, lest one overtakes another.
_OUTBOX_SECONDS = 30.0

_log = structlog.get_logger(__name__)


class Teller:
    """Publishes changes in their order; leaves them to the relay while the topic takes nothing.

    Order holds within one process. Where a partition has just moved, its former owner may tell something late; the new
    one tells how things stand after that.
    """

    def __init__(self, producer: Producer, database: Database, clock: Clock, relay: Relay) -> None:
        self._producer = producer
        self._database = database
        self._clock = clock
        self._relay = relay
        self._publish_from = float("-inf")

    async def tell(self, changes: Sequence[Change]) -> None:
        """Returns when the broker, or else the outbox, has all of them. Raises StoreUnavailableError."""
        if not changes:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._publish_from and self._relay.is_through:
            try:
                await self._publish(changes)
            except (NotSentError, DeliveryUnknownError) as error:
                _log.warning("changes_take_the_outbox", cause=str(error))
                self._publish_from = loop.time() + _OUTBOX_SECONDS
            else:
                return
        now = self._clock()
        rows = [outbox.changed(change, now) for change in changes]
        users = {change.user_id for change in changes}
        await self._database.as_users(users, lambda connection: outbox.add(connection, rows))
        self._relay.wake()

    async def _publish(self, changes: Sequence[Change]) -> None:
        if not await self._producer.wait_connected(_SECONDS):
            raise NotSentError("Kafka cannot be reached.")
        now = self._clock()
        events = [outbox.event_of(change, now) for change in changes]
        records = [(e.user_id, encode(e), event_headers(e, source=outbox.SOURCE, at=now)) for e in events]
        await self._producer.send_all(CONVERSATION_CHANGED, records, timeout_seconds=_SECONDS)
        metrics.TOLD.inc(len(changes))
