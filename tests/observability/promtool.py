"""Cases for `promtool test rules`: what was scraped, and which alerts that makes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from monitoring.rules import groups

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """One alert, at one moment. `series` are in promtool's notation; `fires` has the labels of each expected alert,
    without those that the rule sets.
    """

    alert: str
    name: str
    series: Mapping[str, str]
    at: str
    fires: Sequence[Labels] = ()
    #: Between two samples of each series.
    interval: str = "1m"
    #: Between two evaluations of the rules.
    evaluated: str = "1m"
    #: Only for alerts with several rules: labels of the one that is meant.
    of: Labels = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.alert}: {self.name}"


def counter(*parts: tuple[int, float]) -> str:
    """A counter that goes up by so much at each of so many steps, part after part; it begins at zero."""
    value, notation = 0.0, []
    for steps, increment in parts:
        notation.append(f"{value:.9g}+{increment:.9g}x{steps - 1}")
        value += increment * steps
    return " ".join(notation)


def check(program: str, case: Case, folder: Path) -> None:
    """Runs one case. Raises AssertionError with promtool's words."""
    check_all(program, [case], folder)


def check_all(program: str, cases: Sequence[Case], folder: Path) -> None:
    """Runs cases that share what was scraped: the series of the first one."""
    first = cases[0]
    rules = folder / "rules.yml"
    rules.write_text(yaml.safe_dump({"groups": groups()}))
    test = {
        "name": first.name,
        "interval": first.interval,
        "input_series": [{"series": series, "values": values} for series, values in first.series.items()],
        "alert_rule_test": [
            {"eval_time": case.at, "alertname": case.alert, "exp_alerts": list(_expected(case))} for case in cases
        ],
    }
    file = folder / "test.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": [rules.name], "evaluation_interval": first.evaluated, "tests": [test]})
    )
    done = subprocess.run(
        [program, "test", "rules", file], check=False, capture_output=True, text=True, timeout=120, cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr


def rules_of(alert: str) -> list[dict[str, Any]]:
    """The rules with this name."""
    return [rule for group in groups() for rule in group["rules"] if rule.get("alert") == alert]


def _expected(case: Case) -> Iterable[dict[str, Any]]:
    rule = next(rule for rule in rules_of(case.alert) if case.of.items() <= rule["labels"].items())
    for labels in case.fires:
        every = {**labels, **rule["labels"]}
        annotations = {name: _rendered(text, every) for name, text in rule["annotations"].items()}
        yield {"exp_labels": every, "exp_annotations": annotations}


def _rendered(text: str, labels: Labels) -> str:
    for name, value in labels.items():
        text = text.replace(f"{{{{ $labels.{name} }}}}", value)
    return text
