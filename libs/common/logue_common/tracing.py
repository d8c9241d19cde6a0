"""Traces by OpenTelemetry: one from the HTTP request through Kafka to the model, the database and the last byte.

Configured by OpenTelemetry's own environment variables. Nothing is recorded before OTEL_EXPORTER_OTLP_ENDPOINT (or
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) names a collector; then every tenth trace is, unless OTEL_TRACES_SAMPLER says
otherwise, and whatever a caller's `traceparent` has decided. Attributes follow the semantic conventions for HTTP,
messaging, databases and generative AI; the turn's id is `messaging.message.conversation_id` and `logue.turn.id`.
Message text is no attribute unless OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT is `true`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN_CONTEXT, ProxyTracerProvider, Span, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from logue_common.errors import StartupError

__all__ = ["TRACER", "Span", "SpanKind", "StatusCode"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HEADER = "traceparent"


class _Tracer:
    """OpenTelemetry's; while nothing is traced a span takes 1.4 µs, and 4.7 by itself."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("logue")

    def start_as_current_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AbstractContextManager[Span]:
        """As OpenTelemetry's. Where nothing is recorded and no trace goes on, one that does nothing."""
        if context is None and not is_tracing() and trace.get_current_span() is trace.INVALID_SPAN:
            return _NO_SPAN
        return self._tracer.start_as_current_span(name, context, kind, attributes, **options)

    def start_span(self, *arguments: Any, **options: Any) -> Span:
        """As OpenTelemetry's."""
        return self._tracer.start_span(*arguments, **options)


TRACER = _Tracer()
_NO_SPAN = nullcontext(trace.INVALID_SPAN)
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


def traceparent() -> str | None:
    """W3C's header for what the current span causes; None without a trace."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(_HEADER)


def parent_of(header: bytes | None) -> Context | None:
    """The context in which work is caused by whoever sent this header; None without one."""
    return None if header is None else _propagator.extract({_HEADER: header.decode("latin-1")}, Context())


def cause_of(header: bytes | None) -> SpanContext:
    """The span that a record's traceparent names; an invalid one without."""
    return INVALID_SPAN_CONTEXT if header is None else trace.get_current_span(parent_of(header)).get_span_context()


def exemplar() -> dict[str, str] | None:
    """What links an observation to the current trace, when that is recorded."""
    return _link_to(trace.get_current_span().get_span_context())


def exemplar_of(header: bytes | None) -> dict[str, str] | None:
    """The same for the trace that a record's traceparent names."""
    return _link_to(cause_of(header))


def _link_to(cause: SpanContext) -> dict[str, str] | None:
    return {"trace_id": f"{cause.trace_id:032x}"} if cause.trace_flags.sampled else None


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
