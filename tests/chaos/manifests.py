"""How Kubernetes replaces the pods of a Deployment, as the project's manifests say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

_BASE = Path(__file__).parents[2] / "deploy" / "k8s" / "base"


@dataclass(frozen=True, slots=True)
class Probe:
    """Asks a path every so often; `failures` in a row count as one."""

    path: str
    period_seconds: float
    timeout_seconds: float
    failures: int

    @classmethod
    def of(cls, stated: Mapping[str, Any], pace: float) -> Self:
        return cls(
            path=stated["httpGet"]["path"],
            period_seconds=stated["periodSeconds"] * pace,
            timeout_seconds=stated["timeoutSeconds"],
            failures=stated["failureThreshold"],
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """Of one Deployment, whose pods are replaced one by one: the new one comes first."""

    kind: str
    startup: Probe
    readiness: Probe
    min_ready_seconds: float
    pre_stop_seconds: float
    #: From the decision to end it until SIGKILL; preStop counts.
    grace_seconds: float
    #: Durations that the process itself is told.
    environment: Mapping[str, str]

    @classmethod
    def read(cls, kind: str, pace: float = 1.0) -> Self:
        """Of the base. `pace` shortens what is waited for on purpose, but no bound on how long something may take."""
        documents = yaml.safe_load_all((_BASE / f"{kind}.yaml").read_text())
        spec = next(document["spec"] for document in documents if document["kind"] == "Deployment")
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}, kind
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        slept = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        return cls(
            kind=kind,
            startup=Probe.of(container["startupProbe"], pace),
            readiness=Probe.of(container["readinessProbe"], pace),
            min_ready_seconds=spec["minReadySeconds"] * pace,
            pre_stop_seconds=slept * pace,
            grace_seconds=pod["terminationGracePeriodSeconds"],
            environment={
                each["name"]: str(float(each["value"]) * pace)
                for each in container["env"]
                if each["name"].endswith("_SECONDS")
            },
        )
