"""A demo model on a random port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from openai import AsyncOpenAI

from logue_devstack.demo_model.app import DemoModel


@pytest.fixture
async def demo_url() -> AsyncIterator[str]:
    """The root URL of a demo model of this test's own."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(DemoModel(), lifespan="off", log_level="critical", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listening]))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        await serving


@pytest.fixture
async def model(demo_url: str) -> AsyncIterator[AsyncOpenAI]:
    """The official client, as the agent uses it."""
    async with AsyncOpenAI(base_url=f"{demo_url}/v1", api_key="demo", max_retries=0, timeout=5) as client:
        yield client


@pytest.fixture
async def http(demo_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=demo_url, timeout=5) as client:
        yield client
