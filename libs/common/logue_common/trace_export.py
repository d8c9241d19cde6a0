"""How traces leave the process: batched, by OTLP over HTTP, from a thread of their own."""

from __future__ import annotations

import os
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased

#: Of traces that begin here, unless OTEL_TRACES_SAMPLER is set.
DEFAULT_RATIO = 0.1


def provider(service: str) -> TracerProvider:
    """As OpenTelemetry's environment variables say. What was not exported yet is when the process exits."""
    made = TracerProvider(sampler=_sampler(), resource=_resource(service))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made


def _sampler() -> Sampler | None:
    """None: as OTEL_TRACES_SAMPLER says."""
    return None if os.environ.get("OTEL_TRACES_SAMPLER") else ParentBased(TraceIdRatioBased(DEFAULT_RATIO))


def _resource(service: str) -> Resource:
    own: dict[str, str | bool | int | float] = {SERVICE_VERSION: version("logue-common")}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        own[SERVICE_NAME] = f"logue-{service}"
    return Resource.create(own)
