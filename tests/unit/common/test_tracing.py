"""Trace context in headers, and what is done without any trace."""

from __future__ import annotations

import pytest
from opentelemetry import trace

from logue_common.errors import StartupError
from logue_common.trace_export import provider
from logue_common.tracing import (
    TRACER,
    SpanKind,
    cause_of,
    child_span,
    configure_tracing,
    exemplar,
    exemplar_of,
    is_tracing,
    parent_of,
    traceparent,
)

_TRACE, _SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
_SAMPLED = f"00-{_TRACE}-{_SPAN}-01".encode()
_UNSAMPLED = f"00-{_TRACE}-{_SPAN}-00".encode()


def test_without_a_collector_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    configure_tracing("gateway")
    assert not is_tracing()
    assert traceparent() is None
    assert exemplar() is None


def test_a_protocol_that_is_not_spoken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(StartupError, match="http/protobuf, not grpc"):
        configure_tracing("gateway")


def test_a_header_names_the_cause() -> None:
    context = parent_of(_SAMPLED)
    found = trace.get_current_span(context).get_span_context()
    assert (f"{found.trace_id:032x}", f"{found.span_id:016x}", found.is_remote) == (_TRACE, _SPAN, True)


@pytest.mark.parametrize("header", [None, b"", b"nonsense", b"00-0-0-01", "é".encode("latin-1")])
def test_a_header_that_names_none_is_no_cause(header: bytes | None) -> None:
    found = trace.get_current_span(parent_of(header)).get_span_context()
    assert not found.is_valid


def test_only_recorded_traces_are_linked_to() -> None:
    assert exemplar_of(_SAMPLED) == {"trace_id": _TRACE}
    assert exemplar_of(_UNSAMPLED) is None
    assert exemplar_of(None) is None
    assert cause_of(_SAMPLED[:-2] + b"03").trace_flags.sampled, "random, and sampled"


@pytest.mark.parametrize("header", [None, b"no header"])
def test_without_a_usable_header_there_is_no_cause_whatever_is_current(header: bytes | None) -> None:
    with trace.use_span(trace.NonRecordingSpan(cause_of(_SAMPLED))):
        assert not cause_of(header).is_valid
        assert exemplar() == {"trace_id": _TRACE}


def test_a_tenth_is_recorded_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    assert _sampler_of_a_service() == "ParentBased{root:TraceIdRatioBased{0.1}"
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert _sampler_of_a_service() == "AlwaysOffSampler"


def _sampler_of_a_service() -> str:
    made = provider("gateway")
    made.shutdown()
    return made.sampler.get_description().split(",")[0]


def test_what_goes_on_by_itself_makes_no_trace() -> None:
    with child_span("transaction", SpanKind.CLIENT, {}) as span:
        assert span is trace.INVALID_SPAN


def test_a_process_without_traces_makes_no_spans_and_hands_on_those_of_others() -> None:
    with TRACER.start_as_current_span("work") as span:
        assert span is trace.INVALID_SPAN
        assert traceparent() is None
    with TRACER.start_as_current_span("work", parent_of(_SAMPLED)), TRACER.start_as_current_span("within"):
        assert (traceparent() or "").encode() == _SAMPLED
