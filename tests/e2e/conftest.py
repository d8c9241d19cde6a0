"""Two passes over the same tests: calm on the stand-in broker; on Apache Kafka while processes are being killed."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import httpx
import pytest
from tests.e2e.client import Client, NewClient
from tests.e2e.world import World

from logue_devstack.apache_kafka import jar_folder, missing_tools
from logue_devstack.blueprint import BrokerKind

SEED = int(os.environ.get("LOGUE_E2E_SEED") or random.SystemRandom().randrange(2**32))


@pytest.fixture(scope="package", params=["calm", pytest.param("disturbed", marks=pytest.mark.apache)])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    disturbed = request.param == "disturbed"
    if disturbed and (problem := missing_tools(jar_folder())) is not None:
        pytest.skip(problem)
    broker = BrokerKind.APACHE if disturbed else BrokerKind.NOIDA
    world = World(tmp_path_factory.mktemp(request.param), broker, SEED, disturbed=disturbed)
    try:
        world.start()
        yield world
    finally:
        world.stop()


@pytest.fixture
def quiet(world: World) -> Iterator[World]:
    """The world, in which only the test itself kills."""
    with world.quiet():
        yield world


@pytest.fixture(autouse=True)
def _undisturbed_disturbance(world: World) -> Iterator[None]:
    yield
    world.check()


@pytest.fixture
async def new_client(world: World) -> AsyncIterator[NewClient]:
    timeout = httpx.Timeout(40.0, connect=5.0)
    limits = httpx.Limits(max_connections=300, max_keepalive_connections=20)
    async with httpx.AsyncClient(timeout=timeout, limits=limits) as http:

        def make(user: str = "") -> Client:
            user = user or f"user-{uuid4().hex[:12]}"
            return Client(http, lambda: world.stack.gateway_urls, user, world.stack.token(user), world.choice)

        yield make
        await asyncio.sleep(0)


@pytest.fixture
def client(new_client: NewClient) -> Client:
    return new_client()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"e2e: gateways were chosen with LOGUE_E2E_SEED={SEED}")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "once(pass): a test that makes its own trouble runs in that pass only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves tests out of the passes that are not theirs. (A parameter of their own would start their world anew.)"""

    def elsewhere(item: pytest.Item) -> bool:
        marker = item.get_closest_marker("once")
        return (
            marker is not None
            and isinstance(item, pytest.Function)
            and (item.callspec.params["world"] != marker.args[0])
        )

    left_out = [item for item in items if elsewhere(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
