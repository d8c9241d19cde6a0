"""Every overlay keeps the rules of policy.py, and each rule notices when it is broken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import yaml
from tests.deploy.policy import RULES, pods, violations

Change = Callable[[dict[str, Any]], Any]


def test_overlays_keep_every_rule(overlay):
    assert violations(overlay) == []


def _main(pod: dict[str, Any]) -> dict[str, Any]:
    return pod["containers"][0]


BROKEN: dict[str, Change] = {
    "has no fixed version": lambda pod: _main(pod).update(image="registry.example.org:5000/logue/gateway"),
    "gateway:latest has no fixed version": lambda pod: _main(pod).update(image="logue/gateway:latest"),
    "may run as root": lambda pod: _main(pod)["securityContext"].update(runAsUser=0),
    "runAsNonRoot is not set": lambda pod: pod["securityContext"].pop("runAsNonRoot"),
    "seccompProfile is not": lambda pod: pod["securityContext"].pop("seccompProfile"),
    "may gain privileges": lambda pod: _main(pod)["securityContext"].pop("allowPrivilegeEscalation"),
    "keeps capabilities": lambda pod: _main(pod)["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
    "can write to its root": lambda pod: _main(pod)["securityContext"].pop("readOnlyRootFilesystem"),
    "hostNetwork is set": lambda pod: pod.update(hostNetwork=True),
    "is a path of the host": lambda pod: pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
    "takes a port of the host": lambda pod: _main(pod)["ports"][0].update(hostPort=80),
    "token of the API server": lambda pod: pod.pop("automountServiceAccountToken"),
    "no limits for memory": lambda pod: _main(pod)["resources"]["limits"].pop("memory"),
    "no requests for cpu": lambda pod: _main(pod)["resources"]["requests"].pop("cpu"),
    "no livenessProbe": lambda pod: _main(pod).pop("livenessProbe"),
    "no readinessProbe": lambda pod: _main(pod).pop("readinessProbe"),
    "s to stop": lambda pod: pod.update(terminationGracePeriodSeconds=30),
    "LOGUE_JWT_SECRET is written out": lambda pod: _main(pod)["env"].append({"name": "LOGUE_JWT_SECRET", "value": "x"}),
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_a_broken_rule_is_told(sentence, production):
    broken = deepcopy(next(r for r in production if r["kind"] == "Deployment" and r["metadata"]["name"] == "gateway"))
    BROKEN[sentence](broken["spec"]["template"]["spec"])
    assert [found for found in violations([broken]) if sentence in found]


def test_every_rule_is_among_those_that_were_broken(production):
    gateway = next(r for r in production if r["kind"] == "Deployment" and r["metadata"]["name"] == "gateway")
    noticed = set()
    for change in BROKEN.values():
        broken = deepcopy(gateway)
        change(broken["spec"]["template"]["spec"])
        noticed |= {rule for rule in RULES if violations_of(rule, broken)}
    assert noticed == set(RULES)


@pytest.mark.parametrize(("image", "code"), [("logue/gateway:0.1.0", 0), ("logue/gateway:latest", 1)])
def test_the_command_ends_as_the_rules_say(image, code, production, repository):
    gateway = deepcopy(next(r for r in production if r["metadata"]["name"] == "gateway" and r["kind"] == "Deployment"))
    gateway["spec"]["template"]["spec"]["containers"][0]["image"] = image
    command = [sys.executable, "-m", "tests.deploy.policy"]
    done = subprocess.run(
        command, input=yaml.safe_dump(gateway), cwd=repository, text=True, capture_output=True, check=False
    )
    assert (done.returncode, "no fixed version" in done.stderr) == (code, bool(code))


def test_a_secret_in_an_overlay_is_told():
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "model"}}
    assert violations([secret]) == ["Secret model: secrets are referred to, never written into an overlay"]


def violations_of(rule: Callable[..., Any], resource: dict[str, Any]) -> list[str]:
    """What one rule says about the pod of `resource`."""
    return [sentence for pod in pods([resource]) for sentence in rule(pod)]
