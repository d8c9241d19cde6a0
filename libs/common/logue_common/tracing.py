"""Traces by OpenTelemetry: one from the HTTP request through Kafka to the model, the database and the last byte.

Configured by OpenTelemetry's own environment variables. Nothing is recorded before OTEL_EXPORTER_OTLP_ENDPOINT (or
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) names a collector; then every tenth trace is, unless OTEL_TRACES_SAMPLER says
otherwise, and whatever a caller's `traceparent` has decided. Attributes follow the semantic conventions for HTTP,
messaging, databases and generative AI; the turn's id is `messaging.message.conversation_id` and `logue.turn.id`.
Message text is no attribute unless OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT is `true`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import ProxyTracerProvider, Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from logue_common.errors import StartupError

__all__ = ["TRACER", "Span", "SpanKind", "StatusCode"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HEADER = "traceparent"
#: Whoever calls may name its methods as it likes.
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
#: The bit of a header's flags that says: whoever sent this records the trace.
_SAMPLED = 1

TRACER = trace.get_tracer("logue")
_propagator = TraceContextTextMapPropagator()


def configure_tracing(service: str) -> None:
    """One call at process start. Raises StartupError for an exporter that is not there."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(map(os.environ.get, _ENDPOINTS)):
        return
    protocol = next(filter(None, map(os.environ.get, _PROTOCOLS)), "http/protobuf")
    if protocol != "http/protobuf":
        raise StartupError(
            f"Traces are exported by OTLP over http/protobuf, not {protocol}: unset OTEL_EXPORTER_OTLP_PROTOCOL, and "
            "name the collector's HTTP port (4318 by default) in OTEL_EXPORTER_OTLP_ENDPOINT."
        )
    # Here, since it takes time and memory that nobody without traces has to spend.
    from logue_common.trace_export import provider  # noqa: PLC0415

    trace.set_tracer_provider(provider(service))


def is_tracing() -> bool:
    """True when traces are recorded in this process, at least some."""
    return not isinstance(trace.get_tracer_provider(), ProxyTracerProvider)


def captures_text() -> bool:
    """True when spans of model calls carry the messages themselves."""
    return os.environ.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "").lower() == "true"


def traceparent(span: Span | None = None) -> str | None:
    """W3C's header for what `span`, or the current one, causes; None without a trace."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, None if span is None else trace.set_span_in_context(span))
    return carrier.get(_HEADER)


def parent_of(header: str | bytes | None) -> Context | None:
    """The context in which work is caused by whoever sent this header; None without one."""
    if header is None:
        return None
    text = header if isinstance(header, str) else header.decode("latin-1")
    return _propagator.extract({_HEADER: text}, Context())


def header_of(headers: Iterable[tuple[str, bytes]]) -> bytes | None:
    """The traceparent among a record's headers."""
    return next((value for name, value in headers if name == _HEADER), None)


def is_sampled(header: bytes | None) -> bool:
    """True when the trace that this header continues is recorded."""
    try:
        return header is not None and bool(int(header[-2:], 16) & _SAMPLED)
    except ValueError:
        return False


def exemplar() -> dict[str, str] | None:
    """What links an observation to the current trace, when that is recorded."""
    context = trace.get_current_span().get_span_context()
    return {"trace_id": f"{context.trace_id:032x}"} if context.trace_flags.sampled else None


def exemplar_of(header: bytes | None) -> dict[str, str] | None:
    """The same for the trace that a record's traceparent names."""
    return {"trace_id": header[3:35].decode("latin-1")} if header is not None and is_sampled(header) else None


def http_headers() -> dict[str, str]:
    """Headers for a call to another service, so that what it does belongs to the current trace."""
    header = traceparent()
    return {} if header is None else {_HEADER: header}


def messaging(operation: str, topic: str, turn_id: str | None, **more: Any) -> Mapping[str, Any]:
    """Attributes of a span about a record (semantic conventions for Kafka)."""
    attributes = {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
        **more,
    }
    if turn_id is not None:
        attributes |= {"messaging.message.conversation_id": turn_id, "logue.turn.id": turn_id}
    return attributes


@contextmanager
def child_span(name: str, kind: SpanKind, attributes: Mapping[str, Any]) -> Iterator[Span]:
    """A span of the current trace, current within; none without a trace: what goes on by itself is of no interest."""
    if not trace.get_current_span().get_span_context().is_valid:
        yield trace.INVALID_SPAN
        return
    with TRACER.start_as_current_span(name, kind=kind, attributes=attributes) as span:
        yield span


@contextmanager
def request_span(scope: Scope) -> Iterator[Span]:
    """The span of an HTTP request, current within; a child of what the caller's traceparent names."""
    parent = next((parent_of(value) for name, value in scope["headers"] if name == _HEADER.encode()), None)
    with TRACER.start_as_current_span("HTTP", parent, SpanKind.SERVER) as span:
        yield span


def describe_request(span: Span, scope: Scope, status: int) -> None:
    """What is known of a request once its answer begins (semantic conventions for HTTP servers)."""
    route = getattr(scope.get("route"), "path", None)
    method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
    span.set_attributes(
        {
            "http.request.method": method,
            "http.response.status_code": status,
            "url.path": scope["path"],
            "url.scheme": scope["scheme"],
        }
    )
    if route is not None:
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
