"""What must hold for every pod that we write ourselves. Pods that operators make are theirs to harden.

Pod Security Standards, "restricted", as far as they can be seen in a manifest, and house rules. Each rule answers with
sentences; none when it is kept.

`kubectl kustomize FOLDER | python -m tests.deploy.policy` asks for any overlay, and ends with 1 when a rule is broken.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

Resource = dict[str, Any]

_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")
_SECRET_NAME = re.compile(r"(PASSWORD|SECRET|TOKEN|API_KEY)$")
#: What is written where a client must send something and no server looks at it.
_NOT_SECRET = ("none", "demo")


@dataclass(frozen=True, slots=True)
class Pod:
    """The pod template of a workload."""

    kind: str
    name: str
    template: Resource

    @property
    def spec(self) -> Resource:
        return self.template["spec"]

    @property
    def containers(self) -> list[Resource]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def grace_seconds(self) -> int:
        return self.spec.get("terminationGracePeriodSeconds", 30)


def pods(resources: Iterable[Resource]) -> Iterator[Pod]:
    """The pod templates among `resources`."""
    for resource in resources:
        if resource["kind"] in _WORKLOADS:
            yield Pod(resource["kind"], resource["metadata"]["name"], resource["spec"]["template"])


def violations(resources: Iterable[Resource]) -> list[str]:
    """Every broken rule as a sentence that names the workload."""
    resources = list(resources)
    found = [
        f"{pod.kind} {pod.name}: {sentence}" for pod in pods(resources) for rule in RULES for sentence in rule(pod)
    ]
    found += [
        f"Secret {resource['metadata']['name']}: secrets are referred to, never written into an overlay"
        for resource in resources
        if resource["kind"] == "Secret"
    ]
    return found


def images_are_pinned(pod: Pod) -> Iterator[str]:
    """A tag that moves would change what runs without a change here."""
    for container in pod.containers:
        image = container["image"]
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in image and tag in ("", "latest"):
            yield f"the image {image} has no fixed version"


def nobody_is_root(pod: Pod) -> Iterator[str]:
    for where, context in _contexts(pod):
        if context.get("runAsUser", pod.spec.get("securityContext", {}).get("runAsUser", 0)) == 0:
            yield f"{where} may run as root: set runAsUser"
    if pod.spec.get("securityContext", {}).get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not set"


def nothing_is_gained(pod: Pod) -> Iterator[str]:
    """No capability, no escalation, the runtime's system call filter."""
    if pod.spec.get("securityContext", {}).get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "seccompProfile is not RuntimeDefault"
    for where, context in _contexts(pod):
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{where} may gain privileges"
        capabilities = context.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            yield f"{where} keeps capabilities"


def the_root_is_read_only(pod: Pod) -> Iterator[str]:
    for where, context in _contexts(pod):
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{where} can write to its root file system"


def the_host_is_out_of_reach(pod: Pod) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(field):
            yield f"{field} is set"
    for volume in pod.spec.get("volumes", []):
        if "hostPath" in volume:
            yield f"the volume {volume['name']} is a path of the host"
    for container in pod.containers:
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"container {container['name']} takes a port of the host"


def no_token_of_the_cluster(pod: Pod) -> Iterator[str]:
    if pod.spec.get("automountServiceAccountToken") is not False:
        yield "a token of the API server is mounted, which no service needs"


def resources_are_bounded(pod: Pod) -> Iterator[str]:
    for container in pod.containers:
        for what in ("requests", "limits"):
            for resource in ("cpu", "memory"):
                if resource not in container.get("resources", {}).get(what, {}):
                    yield f"container {container['name']} has no {what} for {resource}"


def probes_are_there(pod: Pod) -> Iterator[str]:
    """A job ends by itself; everything else must be known to live and to be of use."""
    for container in pod.spec["containers"]:
        if pod.kind != "Job":
            for probe in ("readinessProbe", "livenessProbe"):
                if probe not in container:
                    yield f"container {container['name']} has no {probe}"


def there_is_time_to_stop(pod: Pod) -> Iterator[str]:
    """preStop counts against the grace period; a process needs some of it for itself."""
    for container in pod.spec["containers"]:
        slept = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if pod.grace_seconds - slept < 25:
            yield f"container {container['name']} has {pod.grace_seconds - slept} s to stop"


def secrets_come_from_secrets(pod: Pod) -> Iterator[str]:
    for container in pod.containers:
        for variable in container.get("env", []):
            if _SECRET_NAME.search(variable["name"]) and variable.get("value", "none") not in _NOT_SECRET:
                yield f"{variable['name']} is written out"


RULES = (
    images_are_pinned,
    nobody_is_root,
    nothing_is_gained,
    the_root_is_read_only,
    the_host_is_out_of_reach,
    no_token_of_the_cluster,
    resources_are_bounded,
    probes_are_there,
    there_is_time_to_stop,
    secrets_come_from_secrets,
)


def _contexts(pod: Pod) -> Iterator[tuple[str, Resource]]:
    for container in pod.containers:
        yield f"container {container['name']}", container.get("securityContext", {})


if __name__ == "__main__":
    told = violations(resource for resource in yaml.safe_load_all(sys.stdin) if resource)
    sys.exit("\n".join(told) or None)
