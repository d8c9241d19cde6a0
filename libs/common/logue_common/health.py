"""/healthz, /readyz and /metrics: the same in every service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

#: Answers None when the dependency is usable, else a sentence that says what is wrong.
Check = Callable[[], Awaitable[str | None]]

#: A probe must answer before the orchestrator gives up on it (1 s by default in Kubernetes).
CHECK_TIMEOUT_SECONDS = 0.9


TASKS = Gauge("logue_asyncio_tasks", "Tasks of the event loop that have not ended")


async def _run(check: Check) -> str | None:
    try:
        return await asyncio.wait_for(check(), CHECK_TIMEOUT_SECONDS)
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_SECONDS} s"
    except Exception as error:  # noqa: BLE001 (whatever is wrong with a dependency, the probe says so)
        return f"{type(error).__name__}"


def operations_routes(checks: Mapping[str, Check]) -> list[Route]:
    """The three routes. `/readyz` runs every check side by side and is 503 unless all pass."""

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

    async def metrics(_: Request) -> Response:
        TASKS.set(len(asyncio.all_tasks()))
        return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
