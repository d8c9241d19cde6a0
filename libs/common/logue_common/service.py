"""Runs an ASGI application the way every Logue service runs: uvloop, one process, no access log, bounded shutdown."""

from __future__ import annotations

from typing import Any

import uvicorn

#: Backstop for connections that do not end by themselves on shutdown.
GRACEFUL_SHUTDOWN_SECONDS = 10


def serve(app: Any, *, host: str, port: int) -> None:
    """Serve `app` until SIGTERM or SIGINT."""
    uvicorn.run(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
    )
