"""Entry of the gateway process: `python -m logue_gateway`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from logue_common.health import operations_routes
from logue_common.service import observe, serve
from logue_gateway.api import chat, conversations, turns
from logue_gateway.bootstrap import Resources, bootstrap
from logue_gateway.middleware import Correlation, Guard, Routed
from logue_gateway.settings import GatewaySettings

_DESCRIPTION = (
    "Chat as JSON, as an event stream, or accepted for later. Errors are problem+json (RFC 9457). "
    "A broken stream is resumed with Last-Event-ID on any replica."
)


def create_app(resources: Resources, *, extra_routes: Sequence[BaseRoute] = ()) -> ASGIApp:
    """The ASGI application. `extra_routes` are outside of /api, hence not behind the guard."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with resources.opened():
            yield

    app = FastAPI(
        title="Logue",
        description=_DESCRIPTION,
        version="0.1.0",
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
        # Its spans would come beside ours, and its providers instead of ours.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        # As one list: an included router is a second search for every request.
        routes=[
            *(route for module in (chat, turns, conversations) for route in module.router.routes),
            *extra_routes,
            *operations_routes(resources.checks(), metrics_port=resources.settings.metrics_port),
        ],
    )
    app.state.resources = resources
    cors = CORSMiddleware(
        Guard(Routed(app), resources.authenticator),
        allow_origins=resources.settings.cors_origins,
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer"],
        expose_headers=["X-Correlation-ID", "Location", "Retry-After"],
    )
    return Correlation(cors)


def run(settings: GatewaySettings, *, extra_routes: Sequence[BaseRoute] = ()) -> None:
    """Serve until SIGTERM or SIGINT. Open streams are ended first, so that their clients resume elsewhere."""
    observe("gateway", settings.log_level)
    resources = bootstrap(settings)
    app = create_app(resources, extra_routes=extra_routes)
    serve(
        app,
        host=settings.gateway_host,
        port=settings.gateway_port,
        metrics_port=settings.metrics_port,
        on_stop=resources.streams.stop,
    )
