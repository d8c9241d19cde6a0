"""Runs an ASGI application the way every Logue service runs: uvloop, one process, no access log, bounded clients,
bounded shutdown.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import uvicorn

from logue_common import metrics
from logue_common.http_server import BoundedHttp
from logue_common.logs import configure_logging
from logue_common.lost_connections import notice_lost_connections
from logue_common.tracing import configure_tracing

#: Backstop for connections that do not end by themselves on shutdown.
GRACEFUL_SHUTDOWN_SECONDS = 10
#: Exit code of a process whose start failed (uvicorn's own).
STARTUP_FAILED = 3
#: The collector looks at new objects when there are so many; every tenth time at older ones, too (Python: 700, 10, 10).
_YOUNG_OBJECTS = 2_000


def observe(service: str, log_level: str) -> None:
    """Logs, traces and what /metrics says of the process itself. Raises StartupError."""
    configure_logging(service, log_level)
    configure_tracing(service)
    metrics.BUILD.info({"version": version("logue-common"), "revision": os.environ.get("LOGUE_REVISION", "")})


class Server(uvicorn.Server):
    """Keeps the collector off what was there at the start, and calls `on_stop` when it begins to shut down: before it
    waits for connections, which streams keep open.
    """

    def __init__(
        self, config: uvicorn.Config, on_stop: Callable[[], None] | None = None, *, young_objects: int = _YOUNG_OBJECTS
    ) -> None:
        super().__init__(config)
        self._on_stop = on_stop
        self._young_objects = young_objects

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Part of uvicorn's life cycle."""
        await super().startup(sockets)
        _spare_what_stays(self._young_objects)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Part of uvicorn's life cycle."""
        if self._on_stop is not None:
            self._on_stop()
        await super().shutdown(sockets)


def _spare_what_stays(young_objects: int) -> None:
    """Modules, classes and routes never go. A full collection that goes through them stops everything for 0.2 s, and
    came every five seconds under load.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(young_objects, 10, 10)


def config(app: Any, *, host: str, port: int) -> uvicorn.Config:
    """How every service is served."""
    notice_lost_connections()
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=BoundedHttp,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing asks for the client's address, which these headers would let anyone choose
        timeout_keep_alive=int(BoundedHttp.idle_seconds),
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
    )


def serve(
    app: Any,
    *,
    host: str,
    port: int,
    metrics_port: int | None = None,
    on_stop: Callable[[], None] | None = None,
    young_objects: int = _YOUNG_OBJECTS,
) -> None:
    """Serve `app` until SIGTERM or SIGINT, on both ports. `on_stop` is called first thing then.

    More `young_objects` before each look of the garbage collector: fewer looks, and longer ones.
    """
    server = Server(config(app, host=host, port=port), on_stop, young_objects=young_objects)
    sockets = None
    if metrics_port is not None:
        sockets = [config(app, host=host, port=each).bind_socket() for each in (port, metrics_port)]
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal again after it has shut down
        server.run(sockets)
    if not server.started:
        sys.exit(STARTUP_FAILED)
