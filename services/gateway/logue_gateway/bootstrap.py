"""The only place where the gateway's resources are built; the lifespan opens and closes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from logue_common.clock import Clock, utc_now
from logue_common.health import Check
from logue_common.loop_delay import LoopDelay
from logue_common.producer import Producer
from logue_gateway.authenticator import Authenticator
from logue_gateway.changes import changes_reader
from logue_gateway.memory import OwnedConversations, TurnMemory
from logue_gateway.overload import OverloadGuard
from logue_gateway.publisher import Publisher
from logue_gateway.settings import GatewaySettings
from logue_gateway.store import Store
from logue_gateway.streams.event_ids import EventIds
from logue_gateway.streams.hub import Limits, Streams
from logue_gateway.streams.reader import LiveReader
from logue_gateway.streams.replay import ReplayReader
from logue_gateway.streams.tail import TailReader


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything that requests use."""

    settings: GatewaySettings
    clock: Clock
    authenticator: Authenticator
    store: Store
    memory: TurnMemory
    owned: OwnedConversations
    overload: OverloadGuard
    publisher: Publisher
    streams: Streams
    live: LiveReader
    replay: ReplayReader
    changes: TailReader
    event_ids: EventIds

    def checks(self) -> dict[str, Check]:
        """What /readyz looks at."""

        async def keys() -> str | None:
            return await self.authenticator.check()

        return {"kafka": self.live.tail.check, "conversation": self.store.check, "keys": keys}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Start everything, without waiting for anything; close it in reverse, each whatever the others do."""
        async with AsyncExitStack() as stack:
            delay = LoopDelay()
            stack.push_async_callback(delay.stop)
            delay.start()
            for part in (self.authenticator, self.store, self.publisher, self.live.tail, self.changes, self.replay):
                stack.push_async_callback(part.close)
                part.open()
            stack.push_async_callback(self.streams.close)
            self.streams.open(self.replay)
            yield


def bootstrap(settings: GatewaySettings, *, clock: Clock = utc_now) -> Resources:
    """Build everything; nothing connects yet. Raises StartupError for settings that contradict each other."""
    options, index = settings.client_options(), settings.index
    silence_seconds = settings.gateway_silence_seconds
    store = Store(settings.conversation_url, settings.internal_token.get_secret_value())
    memory, owned = TurnMemory(), OwnedConversations()
    limits = Limits(settings.gateway_max_streams, settings.gateway_heartbeat_seconds, silence_seconds)
    streams = Streams(store, limits)
    overload = OverloadGuard(settings.gateway_overload_seconds)
    return Resources(
        settings=settings,
        clock=clock,
        authenticator=Authenticator(settings),
        store=store,
        memory=memory,
        owned=owned,
        overload=overload,
        publisher=Publisher(
            Producer(options, client_id=f"gateway-{index}"),
            clock=clock,
            timeout_seconds=settings.gateway_publish_timeout_seconds,
        ),
        streams=streams,
        live=LiveReader(
            options,
            index=index,
            count=settings.gateway_reply_partitions,
            registry=streams.live,
            memory=memory,
            overload=overload,
        ),
        replay=ReplayReader(
            options,
            index=index,
            silence_seconds=silence_seconds,
            on_attach=streams.on_attach,
            on_trouble=streams.on_trouble,
        ),
        changes=changes_reader(options, index, owned),
        event_ids=EventIds(settings.event_id_secret.get_secret_value()),
    )
