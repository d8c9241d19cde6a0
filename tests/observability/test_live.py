"""Every query of every panel, rule and runbook, on a real Prometheus that scrapes the running system under load."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from monitoring.rules import slo_alerts
from monitoring.slo import SLOS
from tests.integration.telemetry.collector import collector
from tests.observability.expressions import commands_in, panel_queries, rule_expressions, runbook_queries, substituted
from tests.observability.live import Prometheus, quick_rules, shrunk_rules, use
from typer.testing import CliRunner

from logue_devstack.cli import app
from logue_devstack.process import wait_until
from logue_devstack.stack import Stack

ROOT = Path(__file__).parents[2]
#: First turns are slow, and not what anybody wants to see.
_WARM_UP_SECONDS = 2
_LOAD_SECONDS = 8
#: How many times as fast everything goes where alerts are made to fire.
_SHRUNK = 80.0
#: An alert of 6 h and 30 min ends 23 s after the last failure then.
_MEND_SECONDS = 60
PANELS = {where: (expression, exemplars) for where, expression, exemplars in panel_queries(ROOT)}
RULES = {f"{name} {number}": expression for number, (name, expression) in enumerate(rule_expressions())}
RUNBOOKS = {f"{name} {number}": expression for number, (name, expression) in enumerate(runbook_queries(ROOT))}
COMMANDS = [
    command
    for command in commands_in(page.read_text() for page in (ROOT / "docs" / "runbooks").glob("*.md"))
    if command.startswith(".venv/bin/logue")
]
_RECORDS = {name: expression for name, expression in RULES.items() if name.startswith("logue:")}


@dataclass(frozen=True, slots=True)
class Observed:
    """What runs, and a moment at which everything had been used for a while."""

    stack: Stack
    prometheus: Prometheus
    #: The same with shortened windows.
    shrunk: Prometheus
    at: float


@pytest.fixture(scope="module")
def observed(prometheus_program, tmp_path_factory, repository) -> Iterator[Observed]:
    with collector() as traces:
        stack = Stack(
            tmp_path_factory.mktemp("logue"),
            fast_postgres=True,
            environment={
                "OTEL_EXPORTER_OTLP_ENDPOINT": traces.url,
                "OTEL_TRACES_SAMPLER": "always_on",
                "LOGUE_GATEWAY_PUBLISH_TIMEOUT_SECONDS": "1",
            },
        )

        def prometheus(name, rules):
            return Prometheus(prometheus_program, tmp_path_factory.mktemp(name), stack, rules, repository)

        with stack:
            asyncio.run(use(stack, seconds=_WARM_UP_SECONDS))
            with prometheus("usual", quick_rules()) as usual, prometheus("shrunk", shrunk_rules(_SHRUNK)) as shrunk:
                asyncio.run(use(stack, seconds=_LOAD_SECONDS))
                time.sleep(2)  # two more scrapes see the end of it
                yield Observed(stack, usual, shrunk, time.time())


def has_data(values: list[float]) -> bool:
    return any(math.isfinite(value) for value in values)


@pytest.mark.parametrize("where", PANELS)
def test_a_panel_shows_data(where, observed):
    values = observed.prometheus.values(PANELS[where][0], observed.at)
    assert has_data(values), f"{PANELS[where][0]}: {values}"


@pytest.mark.parametrize("where", _RECORDS)
def test_a_recorded_series_has_data(where, observed):
    assert has_data(observed.prometheus.values(RULES[where], observed.at)), RULES[where]


def test_every_rule_is_evaluated_without_an_error(observed):
    for group in observed.prometheus.api("rules")["groups"]:
        for rule in group["rules"]:
            assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule["name"]


def test_no_alert_fires_while_all_is_well(observed):
    # A machine that others use too may be slow; nothing else may happen.
    slow = {(alert.name, "") for slo in SLOS if slo.metric for alert in slo_alerts(slo)}
    assert observed.prometheus.firing() - slow == set()


@pytest.mark.parametrize("where", RUNBOOKS)
def test_a_query_of_a_runbook_runs(where, observed):
    observed.prometheus.values(substituted(RUNBOOKS[where]), observed.at)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_a_runbook_runs(command, observed):
    log = observed.stack.log("gateway-0").read_text()
    turn = json.loads(next(line for line in log.splitlines() if "turn_accepted" in line))["correlation_id"]
    arguments = command.replace("TURN_ID", turn).split()[1:]
    done = CliRunner().invoke(app, arguments, input=log, env={"LOGUE_DATA_DIR": str(observed.stack.data_dir)})
    assert done.exit_code == 0, done.output
    assert done.output


@pytest.mark.parametrize("where", [where for where, (_, exemplars) in PANELS.items() if exemplars])
def test_a_latency_panel_leads_to_traces(where, observed):
    found = observed.prometheus.api("query_exemplars", query=PANELS[where][0], start=observed.at - 60, end=observed.at)
    traces = {exemplar["labels"].get("trace_id", "") for series in found for exemplar in series["exemplars"]}
    assert traces
    assert all(len(trace) == 32 for trace in traces)


def test_a_stopped_agent_is_an_alert_until_it_goes_on(observed):
    alerts = {("LogueServiceDown", "logue-agent"), ("LogueTurnsUnanswered", "")}
    observed.stack.pause("agent-0")
    try:
        assert write_until(observed, lambda firing: firing >= alerts) == {202}
    finally:
        observed.stack.resume("agent-0")
    assert wait_until(lambda: not observed.shrunk.firing() & alerts, _MEND_SECONDS)


def test_a_log_that_takes_nothing_burns_the_budget_until_it_is_back(observed):
    burns = ("LogueTurnAvailabilityBurnsFast", "")
    observed.stack.pause("broker")
    try:
        assert 503 in write_until(observed, lambda firing: burns in firing)
    finally:
        observed.stack.resume("broker")
    observed.stack.wait_ready()
    write_until(observed, lambda firing: burns not in firing)


def write_until(observed: Observed, told: Callable[[set[tuple[str, str]]], bool]) -> set[int]:
    """People go on writing, waiting for no reply, until the alerts that fire are as told; how they were answered."""
    url, token = observed.stack.gateway_urls[0], observed.stack.token("ann")
    headers = {"Authorization": f"Bearer {token}", "Prefer": "respond-async"}
    until, answers = time.monotonic() + _MEND_SECONDS, set()
    while not told(firing := observed.shrunk.firing()):
        assert time.monotonic() < until, f"only {firing} fire; answers were {answers}"
        answer = httpx.post(f"{url}/api/ann/chat", headers=headers, json={"message": "hello?"}, timeout=20)
        answers.add(answer.status_code)
        time.sleep(0.2)
    return answers
