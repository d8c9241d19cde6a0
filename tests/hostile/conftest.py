"""One running system for all hostile tests. None of them may kill it, make it log an error, or leave it slow."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
from tests.e2e.client import Client, NewClient
from tests.hostile.wire import Target

from logue_devstack.stack import Stack

_SERVICES = ("gateway-0", "agent-0", "conversation")
#: A healthy gateway answers within this, even on a machine that is busy with the tests themselves.
AT_ONCE_SECONDS = 1.0


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(
        tmp_path_factory.mktemp("hostile"),
        fast_postgres=True,
        restart_crashed=False,
        # Tests that flood the gateway must see its answers, not that it refuses to give any.
        environment={"LOGUE_GATEWAY_OVERLOAD_SECONDS": "60"},
    ) as running:
        yield running


@pytest.fixture
def target(stack: Stack) -> Target:
    """The gateway, and a user that nobody else uses."""
    user = f"user-{uuid4().hex[:12]}"
    return Target(stack.ports.gateways[0], user, stack.token(user))


@pytest.fixture
async def new_client(stack: Stack) -> AsyncIterator[NewClient]:
    limits = httpx.Limits(max_connections=400, max_keepalive_connections=20)
    async with httpx.AsyncClient(timeout=httpx.Timeout(40.0), limits=limits) as http:

        def make(user: str = "") -> Client:
            user = user or f"user-{uuid4().hex[:12]}"
            return Client(http, lambda: stack.gateway_urls, user, stack.token(user), random.Random(1))

        yield make


@pytest.fixture
def client(new_client: NewClient) -> Client:
    return new_client()


def gateway_process(stack: Stack) -> psutil.Process:
    """The gateway, to see how much memory and how many files it has."""
    child = stack.server("gateway-0").child
    assert child is not None
    return psutil.Process(child.id.pid)


def resident_mib(stack: Stack) -> float:
    """Memory of the gateway."""
    return float(gateway_process(stack).memory_info().rss) / 2**20


@pytest.fixture(autouse=True)
def _unharmed(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test: the same processes, an answer at once, and logs of JSON lines without an error."""
    if "stack" not in request.fixturenames:
        yield
        return
    stack: Stack = request.getfixturevalue("stack")
    processes = {name: gateway.id.pid for name in _SERVICES if (gateway := stack.server(name).child) is not None}
    logs = {name: stack.log(name).stat().st_size for name in _SERVICES}
    yield
    assert {name: child.id.pid for name in _SERVICES if (child := stack.server(name).child)} == processes
    assert all(stack.server(name).is_running for name in _SERVICES)
    # Not by httpx: its certificates alone take longer than most of these tests.
    connection = HTTPConnection("127.0.0.1", stack.ports.gateways[0], timeout=AT_ONCE_SECONDS)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()
    for name, size in logs.items():
        wrong = [line for line in lines_since(stack.log(name), size) if line.get("level") in {"error", "critical"}]
        assert not wrong, f"{name} logged {wrong}"


def lines_since(log: Path, size: int) -> list[dict[str, Any]]:
    """What was logged since the file had that size. Raises ValueError for a line that is not a JSON object."""
    with log.open("rb") as file:
        file.seek(size)
        found = [json.loads(line) for line in file.read().split(b"\n") if line]
    if not all(isinstance(line, dict) for line in found):
        raise ValueError(f"{log} has lines that are no objects")
    return found
