"""What operators build on: names, units and labels of metrics."""

from __future__ import annotations

import pytest
from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase
from tests.contract.metrics_page import PAGE, PARTS, declared, name_of, page

METRICS = [metric for module in PARTS.values() for metric in declared(module)]
_UNITS = ("_seconds", "_records")
_UNBOUNDED = {"user", "user_id", "turn", "turn_id", "conversation", "conversation_id", "correlation_id"}


def test_the_page_is_what_the_code_declares() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.contract.pin`"


@pytest.mark.parametrize("metric", METRICS, ids=name_of)
def test_names_and_labels_are_as_prometheus_wishes(metric: MetricWrapperBase) -> None:
    name = name_of(metric)
    assert name.startswith("logue_")
    assert metric._documentation
    assert not _UNBOUNDED & set(metric._labelnames)
    if isinstance(metric, Histogram):
        assert name.endswith(_UNITS)
    if isinstance(metric, Counter):
        assert "seconds" not in name
    assert "|" not in metric._documentation


def test_no_name_is_used_twice() -> None:
    names = [name_of(metric) for metric in METRICS]
    assert len(names) == len(set(names))
