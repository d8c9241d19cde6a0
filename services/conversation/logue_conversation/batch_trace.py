"""Where batching joins traces: every turn's trace has its part of the batch, and the first one has the batch itself.

The turn's spans are linked to the batch's, and the batch's to the turns', so that one leads to the other. In a trace of
its own it would be recorded, or not, whatever was decided for the turns in it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from opentelemetry import trace
from opentelemetry.trace import Link

from logue_common.tracing import TRACER, Span, SpanKind, cause_of, messaging, parent_of
from logue_conversation.projection import Logged


class Traced(NamedTuple):
    """A record of a trace that is recorded."""

    logged: Logged
    traceparent: bytes


@contextmanager
def batch_span(group: str, records: int, traced: Sequence[Traced]) -> Iterator[None]:
    """Records the storing of a batch within, for the traces of its records. Free without any."""
    if not traced:
        yield
        return
    began = time.time_ns()
    links = [Link(cause_of(each.traceparent)) for each in traced]
    attributes: dict[str, str | int] = {
        "messaging.batch.message_count": records,
        "messaging.consumer.group.name": group,
    }
    first = parent_of(traced[0].traceparent)
    with TRACER.start_as_current_span("store batch", first, SpanKind.CONSUMER, attributes, links=links) as span:
        yield
        ended = time.time_ns()
        for each in traced:
            _record(each, span, records, began, ended)


def _record(each: Traced, batch: Span, records: int, began: int, ended: int) -> None:
    event = each.logged
    place = {"messaging.destination.partition.id": str(event.partition), "messaging.kafka.offset": event.offset}
    link = [Link(batch.get_span_context())]
    process = TRACER.start_span(
        f"process {event.topic}",
        parent_of(each.traceparent),
        SpanKind.CONSUMER,
        messaging("process", event.topic, event.event.turn_id, **place),
        link,
        began,
    )
    database: dict[str, str | int] = {
        "db.system.name": "postgresql",
        "db.operation.name": "transaction",
        "db.operation.batch.size": records,
    }
    write = TRACER.start_span(
        "transaction logue", trace.set_span_in_context(process), SpanKind.CLIENT, database, link, began
    )
    write.end(ended)
    process.end(ended)
