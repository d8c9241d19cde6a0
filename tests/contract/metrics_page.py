"""docs/metrics.md, made from what the services declare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from prometheus_client import Counter, Gauge, Histogram, Info
from prometheus_client.metrics import MetricWrapperBase

from logue_agent import metrics as agent
from logue_common import metrics as common
from logue_conversation import metrics as conversation
from logue_gateway import metrics as gateway

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
PARTS: dict[str, ModuleType] = {
    "Every service": common,
    "Gateway": gateway,
    "Agent": agent,
    "Conversation service": conversation,
}
_KINDS = {Counter: "counter", Gauge: "gauge", Histogram: "histogram", Info: "info"}
_SUFFIXES = {Counter: "_total", Info: "_info"}

_HEAD = """# Metrics

`/metrics` of every service; made from the code by `python -m tests.contract.pin`. Units are in the names, and no label
carries a user, a turn or a conversation. Whoever asks for OpenMetrics gets exemplars: the `trace_id` of an observation
whose trace is recorded ([observability](observability.md)). What the objectives are made of is in [slo.md](slo.md).
"""


def declared(module: ModuleType) -> Iterator[MetricWrapperBase]:
    """The metrics of one file, in its order."""
    return (value for value in vars(module).values() if isinstance(value, MetricWrapperBase))


def name_of(metric: MetricWrapperBase) -> str:
    """As /metrics shows it."""
    return metric._name + _SUFFIXES.get(type(metric), "")


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for title, module in PARTS.items():
        parts.append(f"## {title}\n\n| Metric | Kind | Labels | What |\n| --- | --- | --- | --- |")
        for metric in declared(module):
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            parts[-1] += f"\n| `{name_of(metric)}` | {_KINDS[type(metric)]} | {labels} | {metric._documentation} |"
        parts[-1] += "\n"
    return "\n".join(parts)
