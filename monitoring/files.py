"""Every file that is made of the definitions, as text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring import tables
from monitoring.dashboards import PAGES
from monitoring.rules import groups

_NOTE = "# Made by `make monitoring` from the folder monitoring/. Change it there.\n"


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Long expressions keep their lines, and nothing is an anchor."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        """Always."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def generated(root: Path) -> dict[Path, str]:
    """Path to content. docs/slo.md is written by people, but for its tables."""
    prometheus, grafana = root / "deploy" / "prometheus", root / "deploy" / "grafana"
    slo_page = root / "docs" / "slo.md"
    files = {
        prometheus / "rules" / "logue.yml": rule_file(),
        prometheus / "prometheusrule.yaml": prometheus_rule(),
        slo_page: with_tables(slo_page.read_text()),
    }
    for page in PAGES:
        files[grafana / "dashboards" / f"{page.uid}.json"] = (
            JSONEncoder(sort_keys=True, indent=2).encode(page.build()) + "\n"
        )
    return files


def rule_file() -> str:
    """What Prometheus itself reads."""
    return _NOTE + to_yaml({"groups": groups()})


def prometheus_rule() -> str:
    """The same for the Prometheus operator."""
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "logue"},
        "spec": {"groups": groups()},
    }
    return _NOTE + to_yaml(resource)


def with_tables(text: str) -> str:
    """`text` with each block between `<!-- made: NAME -->` and `<!-- end -->` written anew."""

    def block(match: re.Match[str]) -> str:
        return f"<!-- made: {match[1]} -->\n{tables.TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- made: (\w+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def to_yaml(content: dict[str, Any]) -> str:
    """In the order given."""
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    assert isinstance(text, str)  # noqa: S101 (yaml.dump returns bytes only for an encoding)
    return text
