"""Whoever is paged finds a page that exists, with commands that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from monitoring.rules import groups
from tests.observability.expressions import commands_in
from typer.testing import CliRunner

from logue_devstack.cli import app

ALERTS = [rule for group in groups() for rule in group["rules"] if "alert" in rule]
#: What the commands name: deployments and labels of ours, and resources that the production overlay has.
_RESOURCES = {
    "get": {"pods", "events", "hpa", "configmap", "kafka", "kafkanodepool", "kafkatopic", "kafkauser", "scaledobject"},
    "describe": {"deployment", "scaledobject", "pod"},
}


@pytest.fixture(scope="module")
def pages(repository) -> dict[str, str]:
    folder = repository / "docs" / "runbooks"
    return {path.name: path.read_text() for path in folder.glob("*.md")}


@pytest.fixture(scope="module")
def commands(pages) -> list[str]:
    return commands_in(pages.values())


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']} {rule['labels'].get('job', '')}".strip())
def test_every_alert_has_a_page_that_names_it(rule, repository):
    page = repository / rule["annotations"]["runbook"]
    assert page.is_file()
    assert f"`{rule['alert']}`" in page.read_text()
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"].endswith(".")


def test_every_page_is_of_an_alert_and_has_the_four_parts(pages):
    of_alerts = {Path(rule["annotations"]["runbook"]).name for rule in ALERTS}
    assert set(pages) == of_alerts | {"README.md"}
    for name in of_alerts:
        heads = re.findall(r"^## (.*)$", pages[name], re.MULTILINE)
        assert heads == ["What it means", "What users see", "Find the cause", "What to do"], name
        assert "```promql" in pages[name], name


def test_links_lead_somewhere(pages, repository):
    folder = repository / "docs" / "runbooks"
    texts = pages | {"../slo.md": (repository / "docs" / "slo.md").read_text()}
    for name, text in texts.items():
        for target in re.findall(r"\]\(([^)#]+)", text):
            assert ((folder / name).parent / target).exists(), f"{name}: {target}"


def test_commands_of_logue_exist(commands):
    for command in (command for command in commands if command.startswith(".venv/bin/logue")):
        _, name, *arguments = command.split()
        options = [argument for argument in arguments if argument.startswith("-")]
        shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
        assert shown.exit_code == 0, command
        assert all(option in shown.output for option in options), command


def test_commands_for_kubernetes_name_what_the_overlay_has(commands, repository):
    base = repository / "deploy" / "k8s"
    documents = [
        document
        for file in base.glob("**/*.yaml")
        for document in yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader)
        if document
    ]
    names = {(document["kind"].lower(), document.get("metadata", {}).get("name")) for document in documents}
    labels = {f"app.kubernetes.io/name={name}" for kind, name in names if kind == "deployment"}
    labels |= {"app.kubernetes.io/part-of=logue", "strimzi.io/cluster=logue", "cnpg.io/cluster=logue-db"}
    for command in (command for command in commands if command.startswith("kubectl")):
        words = command.split()
        assert words[1:3] == ["--namespace", "logue"] or words[1] == "describe", command
        if "--selector" in words:
            assert words[words.index("--selector") + 1] in labels, command
        for kind, name in re.findall(r"(deployment|scaledobject)[/ ]([\w-]+)", command):
            assert (kind, name) in names, command
        verb = next((word for word in words if word in _RESOURCES), None)
        if verb is not None:
            assert words[words.index(verb) + 1] in _RESOURCES[verb], command


def test_commands_for_compose_name_its_services(commands, repository):
    services = yaml.safe_load((repository / "docker-compose.yml").read_text())["services"]
    for command in (command for command in commands if command.startswith("docker compose")):
        words = command.split()[2:]
        assert words[0] in {"ps", "logs", "exec"}, command
        if words[0] == "logs":
            assert words[-1] in {*services, "--no-log-prefix"}, command
        if words[0] == "exec":
            assert words[1] in services, command


def test_the_generator_says_what_is_stale(repository):
    done = subprocess.run(
        [sys.executable, "-m", "monitoring", "--check"], check=False, capture_output=True, text=True, cwd=repository
    )
    assert (done.returncode, done.stdout) == (0, "")
