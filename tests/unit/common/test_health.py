"""/healthz, /readyz and /metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette

from logue_common.health import CHECK_TIMEOUT_SECONDS, Check, Refresh, operations_routes
from logue_common.metrics import COMMIT_AGE, LOOP_DELAY


@asynccontextmanager
async def operations(
    checks: Mapping[str, Check], refreshes: Sequence[Refresh] = ()
) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(Starlette(routes=operations_routes(checks, refreshes)))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def usable() -> str | None:
    return None


async def broken() -> str | None:
    return "Kafka cannot be reached."


async def raising() -> str | None:
    raise ConnectionRefusedError("secret-host:5432 refused")


async def hanging() -> str | None:
    await asyncio.Event().wait()
    return None


async def test_a_process_that_answers_is_alive_whatever_it_depends_on() -> None:
    async with operations({"kafka": broken}) as client:
        response = await client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_ready_when_every_dependency_is() -> None:
    async with operations({"kafka": usable, "store": usable}) as client:
        response = await client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "ready", "dependencies": {"kafka": {"ok": True}, "store": {"ok": True}}}


async def test_not_ready_names_each_dependency_and_when_to_ask_again() -> None:
    async with operations({"kafka": broken, "store": usable}) as client:
        response = await client.get("/readyz")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.json() == {
        "status": "not ready",
        "dependencies": {"kafka": {"ok": False, "detail": "Kafka cannot be reached."}, "store": {"ok": True}},
    }


async def test_a_check_that_raises_tells_its_kind_only() -> None:
    async with operations({"store": raising}) as client:
        response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["dependencies"]["store"] == {"ok": False, "detail": "ConnectionRefusedError"}


async def test_hanging_checks_run_side_by_side_and_are_given_up() -> None:
    async with operations({"kafka": hanging, "store": hanging, "model": usable}) as client:
        began = time.monotonic()
        response = await client.get("/readyz")
    assert time.monotonic() - began == pytest.approx(CHECK_TIMEOUT_SECONDS, abs=0.4)
    assert response.status_code == 503
    found = response.json()["dependencies"]
    assert found["kafka"] == found["store"] == {"ok": False, "detail": "no answer within 0.9 s"}
    assert found["model"] == {"ok": True}


async def test_metrics_speak_prometheus() -> None:
    async with operations({}) as client:
        response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert "python_info" in response.text


async def test_gauges_that_nobody_else_sets_are_brought_up_to_date() -> None:
    async with operations({}, [lambda: COMMIT_AGE.set(1234.5)]) as client:
        response = await client.get("/metrics")
    assert "logue_commit_age_seconds 1234.5" in response.text


async def test_exemplars_are_told_to_whoever_speaks_openmetrics() -> None:
    LOOP_DELAY.observe(0.002, {"trace_id": "0af7651916cd43dd8448eb211c80319c"})
    async with operations({}) as client:
        response = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        plain = await client.get("/metrics")
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert '# {trace_id="0af7651916cd43dd8448eb211c80319c"}' in response.text
    assert "0af7651916cd43dd8448eb211c80319c" not in plain.text


async def test_metrics_are_absent_from_the_public_port_where_they_have_their_own() -> None:
    app = Starlette(routes=operations_routes({}, metrics_port=9090))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        public = await client.get("http://service:8000/metrics")
        own = await client.get("http://service:9090/metrics")
    assert (public.status_code, own.status_code) == (404, 200)
