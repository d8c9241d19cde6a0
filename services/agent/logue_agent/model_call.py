"""One call of the model, as metrics and the trace see it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from logue_agent import metrics
from logue_agent.model import Completion, ModelFailedError
from logue_common.events import ChatRequested
from logue_common.tracing import TRACER, Span, SpanKind, StatusCode, exemplar


class ModelCall:
    """A call under way."""

    def __init__(self, model: str, span: Span) -> None:
        self._model = model
        self._span = span
        self._began = time.monotonic()

    def first_token(self) -> float:
        """The first text is here: seconds since the call began."""
        waited = self.seconds
        metrics.MODEL_FIRST_TOKEN_SECONDS.labels(metrics.MODELS.admit(self._model)).observe(waited, exemplar())
        self._span.add_event("gen_ai.first_token")
        return waited

    @property
    def seconds(self) -> float:
        """Since the call began."""
        return time.monotonic() - self._began


@contextmanager
def model_call(request: ChatRequested, completion: Completion, messages: Sequence[bytes]) -> Iterator[ModelCall]:
    """Measures what happens within. Attributes follow the semantic conventions for generative AI."""
    model = completion.model  # as asked for: the server may report another name
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": model,
        "gen_ai.conversation.id": request.conversation_id,
        "logue.turn.id": request.turn_id,
    }
    with TRACER.start_as_current_span(
        f"chat {model}",
        kind=SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        call = ModelCall(model, span)
        if span.is_recording() and _captures_text():
            span.set_attribute("gen_ai.input.messages", (b"[%b]" % b",".join(messages)).decode())
        try:
            yield call
        except ModelFailedError as error:
            metrics.MODEL_ERRORS.labels(metrics.MODELS.of(model), error.problem.code).inc()
            span.set_attribute("error.type", error.problem.code)
            span.set_status(StatusCode.ERROR, error.problem.detail)
            raise
        finally:
            label = metrics.MODELS.of(model)
            metrics.MODEL_SECONDS.labels(label).observe(call.seconds, exemplar())
            if completion.usage is not None:
                metrics.TOKENS.labels(label, "prompt").inc(completion.usage.prompt_tokens)
                metrics.TOKENS.labels(label, "completion").inc(completion.usage.completion_tokens)
            if span.is_recording():
                _describe(span, completion)


def _captures_text() -> bool:
    return os.environ.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "").lower() == "true"


def _describe(span: Span, completion: Completion) -> None:
    span.set_attribute("gen_ai.response.model", completion.model)
    if completion.finish_reason is not None:
        span.set_attribute("gen_ai.response.finish_reasons", [completion.finish_reason])
    if completion.usage is not None:
        span.set_attribute("gen_ai.usage.input_tokens", completion.usage.prompt_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", completion.usage.completion_tokens)
