"""Process entry of the agent: consumes, and serves health and metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from logue_agent.bootstrap import Resources, open_resources
from logue_agent.settings import AgentSettings
from logue_common.health import operations_routes
from logue_common.service import observe, serve


def build_app(settings: AgentSettings) -> Starlette:
    """The agent as an ASGI application: its lifespan is the agent, its routes are for operators."""
    opened: list[Resources] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with open_resources(settings) as resources:
            opened.append(resources)
            yield

    async def kafka() -> str | None:
        return None if opened[0].frames.is_connected and opened[0].events.is_connected else "no broker is reachable"

    async def group() -> str | None:
        return None if opened[0].subscriber.is_member else "not a member of the group, or still restoring partitions"

    def refresh() -> None:
        opened[0].subscriber.refresh_metrics()

    routes = operations_routes({"kafka": kafka, "group": group}, [refresh], metrics_port=settings.metrics_port)
    return Starlette(routes=routes, lifespan=lifespan)


def main() -> None:
    """Run until SIGTERM."""
    settings = AgentSettings.load()
    observe("agent", settings.log_level)
    app = build_app(settings)
    serve(app, host=settings.agent_host, port=settings.agent_port, metrics_port=settings.metrics_port)
