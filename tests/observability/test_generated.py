"""What is checked in is what the definitions make, and what Prometheus accepts."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import yaml
from monitoring.dashboards import PAGES
from monitoring.files import generated
from monitoring.rules import OBJECTIVE, groups
from monitoring.slo import SLOS
from tests.observability.expressions import declared_labels, expressions, labels_in, metrics_in

#: Labels that Prometheus, the rules themselves, or a service at its start (logue_build_info) set.
_ADDED = {"job", "instance", "le", "slo", "alertname", "alertstate", "version", "revision"}


def test_checked_in_files_are_what_the_definitions_make(repository):
    for path, text in generated(repository).items():
        assert path.read_text() == text, f"{path.relative_to(repository)} is stale: run `make monitoring`"


def test_nothing_else_lies_where_files_are_made(repository):
    made = set(generated(repository))
    for folder in ("deploy/prometheus/rules", "deploy/grafana/dashboards"):
        assert {path for path in (repository / folder).iterdir() if path not in made} == set()


def test_prometheus_accepts_the_rules(repository, promtool):
    rules = repository / "deploy" / "prometheus" / "rules" / "logue.yml"
    done = subprocess.run(
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", rules], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_the_configuration_of_compose(repository, promtool, tmp_path):
    config = yaml.safe_load((repository / "deploy" / "prometheus" / "compose.yml").read_text())
    config["rule_files"] = [str(repository / "deploy" / "prometheus" / "rules" / "*.yml")]
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    done = subprocess.run([promtool, "check", "config", file], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout


def test_the_operator_gets_the_same_rules(repository):
    folder = repository / "deploy" / "prometheus"
    resource = yaml.safe_load((folder / "prometheusrule.yaml").read_text())
    assert resource["spec"] == yaml.safe_load((folder / "rules" / "logue.yml").read_text())
    assert yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"] == ["prometheusrule.yaml"]


def test_kubernetes_gets_every_dashboard(repository):
    folder = repository / "deploy" / "grafana"
    made = yaml.safe_load((folder / "kustomization.yaml").read_text())["configMapGenerator"]
    listed = [file for each in made for file in each["files"]]
    assert sorted(listed) == sorted(f"dashboards/{page.uid}.json" for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.uid)
def test_every_panel_says_what_it_shows_in_which_unit(page, repository):
    found = json.loads((repository / "deploy" / "grafana" / "dashboards" / f"{page.uid}.json").read_text())
    panels = [panel for panel in found["panels"] if panel["type"] != "row"]
    assert panels
    for panel in panels:
        assert all(panel[name] for name in ("title", "description")), panel
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "prometheus"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert all(target["expr"] and target["legendFormat"] for target in panel["targets"]), panel["title"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in found["panels"]]
    assert len(set(places)) == len(places), "panels lie on each other"


def test_latency_panels_show_the_objectives_and_exemplars(repository):
    found = json.loads((repository / "deploy" / "grafana" / "dashboards" / "logue-latency.json").read_text())
    panels = [panel for panel in found["panels"] if panel["type"] != "row"]
    for slo in (slo for slo in SLOS if slo.metric):
        of_slo = [panel for panel in panels if slo.metric in panel["targets"][0]["expr"] and len(panel["targets"]) == 3]
        steps = [step.get("value") for step in of_slo[0]["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        assert slo.bound_seconds in steps
        assert any(target.get("exemplar") for target in of_slo[0]["targets"])


def test_metrics_and_labels_that_are_asked_for_exist(repository):
    declared = declared_labels()
    recorded = {rule["record"] for group in groups() for rule in group["rules"] if "record" in rule}
    for where, expression in expressions(repository):
        names = metrics_in(expression)
        assert names or where == OBJECTIVE, f"{where} asks for nothing: {expression}"
        unknown = {name for name in names if name not in declared} - recorded - {"up", "ALERTS"}
        assert not unknown, f"{where} asks for {unknown}"
        known = _ADDED.union(*(declared.get(name, set()) for name in names))
        assert labels_in(expression) <= known, f"{where} asks for labels {labels_in(expression) - known}"


def test_objectives_are_bounds_of_buckets():
    declared = declared_labels()
    for slo in (slo for slo in SLOS if slo.metric):
        assert f"{slo.metric}_bucket" in declared
        assert slo.bound_seconds in declared.bounds[slo.metric], slo.metric


def test_a_record_is_named_by_level_metric_and_operation():
    for rule in (rule for group in groups() for rule in group["rules"] if "record" in rule):
        assert re.fullmatch(r"logue:slo_\w+:\w+", rule["record"])
