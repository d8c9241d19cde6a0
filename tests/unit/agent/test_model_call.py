"""What the span of a model call carries."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.unit.agent.events import requested

from logue_agent import model_call as module
from logue_agent.model import Completion
from logue_agent.model_call import model_call

_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    found, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found))
    monkeypatch.setattr(module, "TRACER", provider.get_tracer("test"))
    return found


def call(spans: InMemorySpanExporter) -> ReadableSpan:
    with model_call(requested("turn"), Completion("demo"), [b'{"role":"user","content":"a secret"}']):
        pass
    (span,) = spans.get_finished_spans()
    return span


def test_text_is_no_attribute(spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(_CAPTURE, raising=False)
    assert "a secret" not in str(call(spans).attributes)


def test_text_is_an_attribute_where_it_is_switched_on(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(_CAPTURE, "true")
    attributes = call(spans).attributes
    assert attributes is not None
    assert attributes["gen_ai.input.messages"] == '[{"role":"user","content":"a secret"}]'
