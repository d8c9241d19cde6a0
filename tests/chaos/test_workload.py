"""The workload on a system that nobody disturbs: the checker finds nothing."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp import web
from tests.chaos.checker import check
from tests.chaos.figures import figures
from tests.chaos.history import Fault, History
from tests.chaos.person import SCENES
from tests.chaos.workload import Workload

from logue_devstack.blueprint import BrokerKind
from logue_devstack.server import free_ports
from logue_devstack.stack import Stack

SEED = int(os.environ.get("LOGUE_CHAOS_SEED") or random.SystemRandom().randrange(2**32))
_SECONDS = 15.0
_USERS = 8
_SILENCE_SECONDS = 15.0
"""After this long without a frame a gateway asks the store: whoever saw a pause as long was told by nobody before."""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with Stack(tmp_path / "stack", broker=BrokerKind.NOIDA, gateways=2, agents=2, fast_postgres=True) as stack:
        yield stack


async def test_nothing_is_wrong_with_what_an_undisturbed_system_does(stack: Stack, tmp_path: Path) -> None:
    history = History(seed=SEED)
    workload = Workload(
        lambda: stack.gateway_urls,
        stack.token,
        stack.demo_model_url,
        history,
        seed=SEED,
        users=_USERS,
        give_up_seconds=60.0,
        long_seconds=6.0,
    )
    kinds = {name.replace("_", " ") for name in SCENES}
    await workload.run(_SECONDS)
    while kinds - {ask.kind for ask in history.asks} and history.now() < 8 * _SECONDS:  # a busy machine is slow
        await workload.run(_SECONDS / 5)
    await workload.settle()
    history.write(tmp_path / "history.jsonl")
    found = figures(history)
    told = f"LOGUE_CHAOS_SEED={SEED}, {found}"
    assert check(history) == [], told
    assert set(found["kinds"]) == kinds, told
    assert found["acknowledged"] == found["turns"], told
    assert min(found[name] for name in ("completed", "failed", "cancelled", "streams_resumed")) > 0, told
    assert found["gave_up"] == found["resets"] == 0, told
    assert found["longest_pause"]["seconds"] < _SILENCE_SECONDS, told


def _workload(history: History, gateways: list[str]) -> Workload:
    """Of impatient users."""
    return Workload(
        lambda: gateways,
        lambda user: "token",
        "http://127.0.0.1:1",
        history,
        seed=SEED,
        users=4,
        give_up_seconds=0.3,
        thinking_seconds=0.05,
        bill_seconds=0.1,
    )


async def test_gateways_that_nobody_reaches_are_survived_and_judged() -> None:
    history = History(seed=SEED)
    workload = _workload(history, [f"http://127.0.0.1:{port}" for port in free_ports(2)])
    await workload.run(0.5)
    await workload.settle()
    assert {violation.rule for violation in check(history)} == {"5 stuck", "6 usage"}
    assert len(history.give_ups) > 4
    assert figures(history)["acknowledged"] == 0
    history.add(Fault("outage", "everything", 0.0))
    assert {violation.rule for violation in check(history)} == {"6 usage"}, "nobody read the bill"


async def test_nonsense_is_survived_and_judged() -> None:
    history, choice = History(seed=SEED), random.Random(SEED)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", partial(_nonsense, choice))
    runner = web.AppRunner(app)
    await runner.setup()
    [port] = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        workload = _workload(history, [f"http://127.0.0.1:{port}"])
        await workload.run(1.0)
        await workload.settle()
    finally:
        await runner.cleanup()
    assert len(history.records) > 50
    assert "protocol" in {violation.rule for violation in check(history)}
    assert figures(history)["completed"] == 0


async def _nonsense(choice: random.Random, request: web.Request) -> web.StreamResponse:
    """Answers of every shape, the right ones of which are only some."""
    ids = {"turn_id": str(uuid4()), "conversation_id": str(uuid4())}
    match choice.randrange(10):
        case 0:
            return web.Response(status=500, text="<html>")
        case 1:
            return web.json_response([1, 2, 3])
        case 2:
            return web.json_response({})
        case 3:
            return web.json_response({}, status=503, headers={"Retry-After": "0"})
        case 4:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        case 5:
            return web.json_response({**ids, "status": "queued"}, status=202)
        case 6:
            return web.json_response({**ids, "status": "completed", "message": None, "usage": None})
        case 7:
            return web.json_response({"items": [], "next_cursor": None})
        case _:
            stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Correlation-ID": str(uuid4())})
            await stream.prepare(request)
            blocks = (
                b"retry: 1000\n\n",
                b"event: message.delta\nid: 1\ndata: {}\n\n",
                b'event: message.delta\nid: 2\ndata: {"delta": 7}\n\n',
                b"event: message.snapshot\nid: 2\ndata: []\n\n",
                b"event: message.completed\nid: 3\ndata: {}\n\n",
                b'event: message.completed\nid: 3\ndata: {"status": "completed", "turn_id": 5}\n\n',
                b"event: turn.started\nid: 4\ndata: {}\n\n",
                b"data: nothing\n\n",
                b"\xff\xfe\n\n",
                b": comment\n\n",
            )
            for _ in range(choice.randrange(6)):
                await stream.write(choice.choice(blocks))
            return stream
