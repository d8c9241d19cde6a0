"""The ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from logue_common.health import Check, Refresh, operations_routes
from logue_conversation.api import conversations, problems, turns
from logue_conversation.api.auth import InternalToken
from logue_conversation.bootstrap import bootstrap
from logue_conversation.settings import ConversationSettings

#: FastAPI's own spans, of calls of other services alone; its metrics and logs would repeat ours.
_TELEMETRY: TelemetryConfig = {
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
    "exclude": lambda scope: not scope["path"].startswith("/internal/"),
}


def create_app(settings: ConversationSettings) -> FastAPI:
    """The internal API; its lifespan runs writer, relay and reconciler too."""
    checks: dict[str, Check] = {}
    refreshes: list[Refresh] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with bootstrap(settings) as resources:
            app.state.resources = resources
            checks.update(resources.checks())
            refreshes.append(resources.refresh_metrics)
            yield

    app = FastAPI(title="Logue conversation service", lifespan=lifespan, openapi_url=None, telemetry=_TELEMETRY)
    problems.install(app)
    app.include_router(conversations.router)
    app.include_router(turns.router)
    app.router.routes.extend(operations_routes(checks, refreshes, metrics_port=settings.metrics_port))
    app.add_middleware(InternalToken, token=settings.internal_token.get_secret_value())
    return app
