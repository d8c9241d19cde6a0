from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.integration.gateway.rig import FakeAgent, FakeStore, Gateway, make_topics


@pytest.fixture
async def kafka(broker: str) -> str:
    """A broker with Logue's topics."""
    await make_topics(broker)
    return broker


@pytest.fixture
async def store() -> AsyncIterator[FakeStore]:
    store = FakeStore()
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
async def agent(kafka: str) -> AsyncIterator[FakeAgent]:
    agent = FakeAgent(kafka)
    await agent.start()
    yield agent
    await agent.stop()


@pytest.fixture
async def gateway(kafka: str, store: FakeStore) -> AsyncIterator[Gateway]:
    async with Gateway(kafka, store.url) as gateway:
        await gateway.ready()
        yield gateway
