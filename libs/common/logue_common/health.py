"""/healthz, /readyz and /metrics: the same in every service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import orjson
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from logue_common import metrics

#: Answers None when the dependency is usable, else a sentence that says what is wrong.
Check = Callable[[], Awaitable[str | None]]
#: Brings gauges up to date that nobody else sets.
Refresh = Callable[[], None]

#: A probe must answer before the orchestrator gives up on it (1 s by default in Kubernetes).
CHECK_TIMEOUT_SECONDS = 0.9


async def _run(check: Check) -> str | None:
    try:
        return await asyncio.wait_for(check(), CHECK_TIMEOUT_SECONDS)
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_SECONDS} s"
    except Exception as error:  # noqa: BLE001 (whatever is wrong with a dependency, the probe says so)
        return f"{type(error).__name__}"


def operations_routes(
    checks: Mapping[str, Check], refreshes: Sequence[Refresh] = (), *, metrics_port: int | None = None
) -> list[Route]:
    """The three routes. `/readyz` runs every check side by side and is 503 unless all pass.

    `/metrics` calls `refreshes` first, and speaks OpenMetrics, exemplars included, to whoever asks for it. With
    `metrics_port` it is there only, and absent elsewhere.
    """

    async def healthz(_: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def readyz(_: Request) -> Response:
        causes = await asyncio.gather(*(_run(check) for check in checks.values()))
        ready = all(cause is None for cause in causes)
        body = {
            "status": "ready" if ready else "not ready",
            "dependencies": {
                name: {"ok": cause is None, **({} if cause is None else {"detail": cause})}
                for name, cause in zip(checks, causes, strict=True)
            },
        }
        headers = {} if ready else {"Retry-After": "1"}
        return Response(orjson.dumps(body), 200 if ready else 503, headers, "application/json")

    async def scrape(request: Request) -> Response:
        if metrics_port is not None and request.scope["server"][1] != metrics_port:
            raise HTTPException(404)
        metrics.TASKS.set(len(asyncio.all_tasks()))
        for refresh in refreshes:
            refresh()
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(REGISTRY), headers={"Content-Type": content_type})

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", scrape)]
