"""Every alert fires when it should and not before, as promtool sees it."""

from __future__ import annotations

import pytest
from monitoring.rules import groups
from monitoring.slo import AVAILABILITY, CHAT
from tests.observability.burns import BURNS, Burn, series
from tests.observability.burns import cases as burn_cases
from tests.observability.cases import cases
from tests.observability.promtool import Case, check, check_all, counter

CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_alert_fires_when_it_should(case: Case, promtool, tmp_path):
    check(promtool, case, tmp_path)


@pytest.mark.parametrize("burn", BURNS, ids=lambda burn: f"{burn.severity}: {burn.name}")
def test_a_budget_that_burns_is_an_alert_of_its_objective(burn: Burn, promtool, tmp_path):
    check_all(promtool, burn_cases(burn), tmp_path)


@pytest.mark.parametrize(
    ("name", "bad", "fires"),
    [
        ("a defect of Logue", 'logue_agent_turns_total{status="failed",code="internal_error"}', True),
        ("lost turns", 'logue_agent_turns_total{status="failed",code="turn_lost"}', True),
        ("a failing model", 'logue_agent_turns_total{status="failed",code="model_error"}', False),
        ("a busy conversation", 'logue_agent_turns_total{status="failed",code="conversation_busy"}', False),
        ("stops", 'logue_agent_turns_total{status="cancelled",code=""}', False),
        ("errors of the gateway", f'logue_gateway_requests_total{{{CHAT},status="500"}}', True),
        ("bad requests", f'logue_gateway_requests_total{{{CHAT},status="422"}}', False),
        ("a failing model, told at once", f'logue_gateway_requests_total{{{CHAT},status="502"}}', False),
        ("refusals elsewhere", 'logue_gateway_requests_total{method="GET",route="/readyz",status="503"}', False),
    ],
)
def test_availability_counts_what_is_logues_own(name, bad, fires, promtool, tmp_path):
    scraped = series(AVAILABILITY, ((70, 0),)) | {bad: counter((70, 200))}
    check(promtool, Case("LogueTurnAvailabilityBurnsFast", name, scraped, "69m", [{}] if fires else ()), tmp_path)


def test_requests_that_are_the_clients_fault_do_not_thin_out_the_others(promtool, tmp_path):
    scraped = series(AVAILABILITY, ((70, 16),)) | {
        f'logue_gateway_requests_total{{{CHAT},status="429"}}': counter((70, 100_000))
    }
    check(promtool, Case("LogueTurnAvailabilityBurnsFast", "429", scraped, "69m", [{}]), tmp_path)


def test_there_is_a_case_for_firing_and_for_not_firing_of_every_rule():
    every = [*CASES, *(case for burn in BURNS for case in burn_cases(burn))]
    fire = {(case.alert, frozenset(case.of.items())) for case in every if case.fires}
    rest = {(case.alert, frozenset(case.of.items())) for case in every if not case.fires}
    for rule in (rule for group in groups() for rule in group["rules"] if "alert" in rule):
        several = {"job": rule["labels"]["job"]} if rule["alert"] == "LogueServiceDown" else {}
        key = (rule["alert"], frozenset(several.items()))
        assert key in fire, f"{rule['alert']} has no case that fires"
        assert key in rest, f"{rule['alert']} has no case that does not fire"
