"""A demo model on a random port."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import uvicorn
from openai import AsyncOpenAI

from logue_devstack.demo_model.app import DemoModel


@pytest.fixture(scope="session")
def demo_server() -> Iterator[str]:
    """The root URL of a demo model in a thread."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(DemoModel(), lifespan="off", log_level="critical", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
async def http(demo_server: str) -> AsyncIterator[httpx.AsyncClient]:
    """A plain client of a demo model that was asked nothing yet."""
    async with httpx.AsyncClient(base_url=demo_server, timeout=5) as client:
        await client.delete("/demo/calls")
        yield client


@pytest.fixture
async def model(http: httpx.AsyncClient) -> AsyncIterator[AsyncOpenAI]:
    """The official client, as the agent uses it."""
    url = f"{str(http.base_url).rstrip('/')}/v1"
    async with AsyncOpenAI(base_url=url, api_key="demo", max_retries=0, timeout=5) as client:
        yield client
