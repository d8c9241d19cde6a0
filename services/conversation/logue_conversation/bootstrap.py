"""The only place where resources are built."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import text

from logue_common.clock import Clock, utc_now
from logue_common.dead_letters import DeadLetters
from logue_common.health import Check
from logue_common.loop_delay import LoopDelay
from logue_common.producer import Producer
from logue_conversation.barrier import Barrier, PositionWatch
from logue_conversation.database import Database, make_engine
from logue_conversation.errors import StoreUnavailableError
from logue_conversation.handlers import Handlers
from logue_conversation.log_ends import LogEnds
from logue_conversation.news import News
from logue_conversation.reconciler import Reconciler
from logue_conversation.relay import Relay
from logue_conversation.settings import ConversationSettings
from logue_conversation.subscriber import Subscriber
from logue_conversation.telling import Teller
from logue_conversation.writer import Writer

#: A request that takes longer than this would be given up by its caller anyway.
_API_SECONDS = 4.0
#: A batch of large messages on a busy disk.
_WRITER_SECONDS = 30.0
_RELAY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Resources:
    """What the process holds while it runs."""

    api: Database
    writer: Database
    relay: Database
    producer: Producer
    ends: LogEnds
    handlers: Handlers
    subscriber: Subscriber
    outbox_relay: Relay
    reconciler: Reconciler

    def checks(self) -> dict[str, Check]:
        """For /readyz."""
        return {"postgres": self._postgres, "kafka": self._kafka, "writer": self._writer}

    def refresh_metrics(self) -> None:
        """Bring the gauges up to date that are looked at only when somebody asks."""
        self.subscriber.refresh_metrics()
        for pool, database in (("api", self.api), ("writer", self.writer), ("relay", self.relay)):
            database.show_use(pool)

    async def _postgres(self) -> str | None:
        try:
            await self.api.as_nobody(lambda connection: connection.execute(text("SELECT 1 FROM log_positions LIMIT 1")))
        except StoreUnavailableError as error:
            return str(error)
        return None

    async def _kafka(self) -> str | None:
        return None if self.producer.is_connected else "Kafka cannot be reached."

    async def _writer(self) -> str | None:
        return self.subscriber.trouble


@asynccontextmanager
async def bootstrap(settings: ConversationSettings, clock: Clock = utc_now) -> AsyncIterator[Resources]:
    """Build and start everything; neither Kafka nor PostgreSQL has to be there. Stops in the opposite order."""

    def database(url: str, pool_size: int, command_seconds: float) -> Database:
        prepared = settings.database_prepared_statements
        return Database(make_engine(url, pool_size=pool_size, command_seconds=command_seconds, prepared=prepared))

    api = database(settings.database_url.get_secret_value(), settings.conversation_pool_size, _API_SECONDS)
    writer = database(settings.database_writer_url.get_secret_value(), 2, _WRITER_SECONDS)
    relay = database(settings.database_relay_url.get_secret_value(), 2, _RELAY_SECONDS)
    options = settings.client_options()
    producer = Producer(options, client_id="logue-conversation")
    ends = LogEnds(options)
    watch = PositionWatch(api)
    outbox_relay = Relay(relay, producer)
    dead_letters = DeadLetters(Producer(options, client_id="logue-conversation-dlq"), consumer="conversation")
    news = News()
    subscriber = Subscriber(
        options,
        Writer(writer),
        Teller(producer, writer, clock, outbox_relay),
        dead_letters,
        batch_records=settings.conversation_batch_records,
        news=news,
    )
    resources = Resources(
        api=api,
        writer=writer,
        relay=relay,
        producer=producer,
        ends=ends,
        handlers=Handlers(api, Barrier(ends, watch), clock, changed=outbox_relay.wake, news=news),
        subscriber=subscriber,
        outbox_relay=outbox_relay,
        reconciler=Reconciler(
            relay,
            ends,
            watch,
            producer,
            clock,
            lost_after_seconds=settings.conversation_lost_after_seconds,
            interval_seconds=settings.conversation_reconcile_interval_seconds,
        ),
    )
    delay = LoopDelay()
    delay.start()
    producer.start()
    resources.subscriber.start()
    outbox_relay.start()
    resources.reconciler.start()
    try:
        yield resources
    finally:
        await resources.reconciler.stop()
        await resources.subscriber.stop()
        await outbox_relay.stop()
        await dead_letters.close()
        await producer.close()
        await ends.close()
        for held in (api, writer, relay):
            await held.close()
        await delay.stop()
