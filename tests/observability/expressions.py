"""Every PromQL expression of the project, what the services declare, and the commands of the runbooks."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from monitoring.rules import groups
from prometheus_client import REGISTRY, Histogram
from prometheus_client.metrics import MetricWrapperBase

_METRIC = re.compile(r"\b(logue[_:][\w:]+|process_\w+|python_\w+|up|ALERTS)\b(?!\s*=)")
_STRING = re.compile(r'"[^"]*"')
_GROUPED = re.compile(r"\b(?:by|on|group_left)\s*\(([^)]*)\)")
_MATCHED = re.compile(r'[{,]\s*(\w+)\s*(?:=~|!~|!=|=)\s*"')
_COMMAND = re.compile(r"(?:kubectl|docker compose|\.venv/bin/logue)\s[^`|\n]*")
_BLOCK = re.compile(r"^```promql\n(.*?)^```", re.MULTILINE | re.DOTALL)
_DECLARING = (
    "logue_common.metrics",
    "logue_gateway.metrics",
    "logue_agent.metrics",
    "logue_conversation.metrics",
)


class Declared(dict[str, set[str]]):
    """Series name to the labels that it can have; `bounds` of each histogram."""

    def __init__(self) -> None:
        super().__init__()
        self.bounds: dict[str, set[float]] = {}


def declared_labels() -> Declared:
    """What the services export, read from where it is declared."""
    for module in _DECLARING:
        importlib.import_module(module)
    found = Declared()
    for collector, names in REGISTRY._collector_to_names.items():
        if isinstance(collector, MetricWrapperBase):
            labels = set(collector._labelnames)
            found |= dict.fromkeys(names, labels)
            if isinstance(collector, Histogram):
                found.bounds[collector._name] = set(collector._kwargs["buckets"])
    for metric in REGISTRY.collect():  # those of the process and of Python are made when they are asked for
        for sample in metric.samples:
            found.setdefault(sample.name, set(sample.labels))
    return found


def expressions(repository: Path) -> Iterator[tuple[str, str]]:
    """Where each stands, and the expression, with Grafana's variables replaced."""
    yield from rule_expressions()
    for where, expression, _ in panel_queries(repository):
        yield where, expression
    yield from runbook_queries(repository)


def rule_expressions() -> Iterator[tuple[str, str]]:
    """Of recorded series and alerts."""
    for group in groups():
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]


def panel_queries(repository: Path) -> Iterator[tuple[str, str, bool]]:
    """Of each panel's targets, and whether it wants exemplars; from the files as they are checked in."""
    for file in sorted((repository / "deploy" / "grafana" / "dashboards").glob("*.json")):
        dashboard = json.loads(file.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                where = f"{dashboard['title']}: {panel['title']}: {target['refId']}"
                yield where, substituted(target["expr"]), target.get("exemplar", False)


def runbook_queries(repository: Path) -> Iterator[tuple[str, str]]:
    """Of the blocks marked `promql`."""
    for page in sorted((repository / "docs" / "runbooks").glob("*.md")):
        for block in _BLOCK.findall(page.read_text()):
            yield page.name, block.strip()


def commands_in(pages: Iterable[str]) -> list[str]:
    """Commands of `logue`, Compose and kubectl, up to a pipe; each once."""
    found = [match.strip() for text in pages for match in _COMMAND.findall(text.replace("\n  ", " "))]
    assert found
    return list(dict.fromkeys(found))


def substituted(expression: str, interval: str = "1m") -> str:
    """As Grafana sends it: all values of variables chosen, and an interval."""
    expression = re.sub(r"\$__(?:rate_interval|interval|range)\b", interval, expression)
    return re.sub(r"\$(?:job|instance|model)\b", ".+", expression)


def metrics_in(expression: str) -> set[str]:
    """Names of series."""
    return set(_METRIC.findall(_STRING.sub('""', _GROUPED.sub("", expression))))


def labels_in(expression: str) -> set[str]:
    """Labels that it groups or selects by."""
    grouped = {label.strip() for group in _GROUPED.findall(expression) for label in group.split(",")} - {""}
    return grouped | set(_MATCHED.findall(expression))
