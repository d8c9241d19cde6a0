"""A trace collector of the test's own: takes OTLP over HTTP, as any collector does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_ARRIVE_SECONDS = 20.0


@dataclass(frozen=True)
class Span:
    """One span, as far as tests look at it. Ids are hex; "" for no parent. Times in nanoseconds."""

    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    links: frozenset[str]
    began: int
    ended: int
    attributes: dict[str, Any] = field(hash=False)
    events: tuple[str, ...]
    failed: bool

    @property
    def title(self) -> tuple[str, str]:
        return self.service.removeprefix("logue-"), self.name


class Collector:
    """What arrived so far."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.spans: list[Span] = []

    def of(self, trace: str) -> list[Span]:
        return [span for span in self.spans if span.trace == trace]

    def wait(self, is_there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _ARRIVE_SECONDS
        while not is_there():
            seen = sorted({span.title for span in self.spans})
            assert time.monotonic() < deadline, f"after {_ARRIVE_SECONDS} s there are only {seen}"
            time.sleep(0.05)

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _attributes(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans.extend(_span(service, raw) for raw in scope.spans)


@contextmanager
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Not to the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Collector(server.server_port)
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def _span(service: str, raw: Any) -> Span:
    return Span(
        service=service,
        name=raw.name,
        kind=raw.kind,
        trace=raw.trace_id.hex(),
        id=raw.span_id.hex(),
        parent=raw.parent_span_id.hex(),
        links=frozenset(link.span_id.hex() for link in raw.links),
        began=raw.start_time_unix_nano,
        ended=raw.end_time_unix_nano,
        attributes=_attributes(raw.attributes),
        events=tuple(event.name for event in raw.events),
        failed=raw.status.code == 2,
    )


def _attributes(raw: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in raw}
