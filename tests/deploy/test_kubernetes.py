"""The overlays build, are valid in three versions of Kubernetes and for the operators, and agree with the code."""

from __future__ import annotations

import subprocess
from copy import deepcopy

import pytest
import yaml
from tests.deploy.facts import PORT_OF_MODULE, SETTINGS_OF_MODULE, ours, variables
from tests.deploy.policy import pods
from tests.deploy.schemas import KUBERNETES_VERSIONS

from logue_agent.settings import AgentSettings
from logue_common.service import GRACEFUL_SHUTDOWN_SECONDS
from logue_common.settings import TopicSettings
from logue_common.topics import ALL_TOPICS, MAX_RECORD_BYTES, topic_specs
from logue_gateway.metrics import OPEN_WAITERS
from logue_gateway.settings import GatewaySettings

SERVICES = ("gateway", "agent", "conversation")
#: What the secrets' section of docs/deploy.md asks for; operators make the rest.
MADE_BY_OPERATORS = {
    "logue-gateway",
    "logue-agent",
    "logue-conversation",
    "logue-keda",
    "logue-cluster-ca-cert",
    "logue-db-app",
}

#: Read by logue_common.settings where brokers ask for TLS and a password.
KAFKA_SECURITY = {
    "LOGUE_KAFKA_SECURITY_PROTOCOL",
    "LOGUE_KAFKA_SASL_MECHANISM",
    "LOGUE_KAFKA_SASL_USERNAME",
    "LOGUE_KAFKA_SASL_PASSWORD",
    "LOGUE_KAFKA_SSL_CAFILE",
}


def named(resources, kind, name):
    return next(r for r in resources if r["kind"] == kind and r["metadata"]["name"] == name)


def of_kind(resources, kind):
    return {r["metadata"]["name"]: r for r in resources if r["kind"] == kind}


def module_of(container):
    service = container["image"].split("/")[-1].split(":")[0].split("@")[0].removeprefix("logue-")
    return container.get("args", [f"logue_{service}"])[0]


def our_containers(resources):
    return [pod.containers[0] for pod in pods(resources) if module_of(pod.containers[0]) in SETTINGS_OF_MODULE]


def environment_of(container, resources):
    """Names and values; None for what comes from a reference."""
    given = {variable["name"]: variable.get("value") for variable in container.get("env", [])}
    for source in container.get("envFrom", []):
        given = named(resources, "ConfigMap", source["configMapRef"]["name"])["data"] | given
    return given


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_an_overlay_is_valid(overlay, schemas, version):
    assert [sentence for resource in overlay for sentence in schemas.violations(resource, version)] == []


@pytest.mark.parametrize(
    ("kind", "name", "path", "value"),
    [
        ("Deployment", "gateway", ("spec", "replica"), 3),
        ("Deployment", "gateway", ("spec", "template", "spec", "terminationGracePeriodSeconds"), "40s"),
        ("PodDisruptionBudget", "agent", ("spec", "selector", "matchLabel"), {}),
        ("Kafka", "logue", ("spec", "kafka", "listener"), []),
        ("KafkaUser", "logue-agent", ("spec", "authentication", "type"), "scram"),
        ("Cluster", "logue-db", ("spec", "instances"), "three"),
        ("ScaledObject", "agent", ("spec", "maxReplicas"), 12),
        ("PodMonitor", "logue", ("spec", "podMetricsEndpoints"), {"port": "http"}),
    ],
)
def test_an_invalid_field_is_told(production, schemas, kind, name, path, value):
    broken = deepcopy(named(production, kind, name))
    *parents, last = path
    target = broken
    for part in parents:
        target = target[part]
    target[last] = value
    assert all(schemas.violations(broken, version) for version in KUBERNETES_VERSIONS)


def test_nothing_is_set_that_no_service_reads(overlay):
    for container in our_containers(overlay):
        known = variables(SETTINGS_OF_MODULE[module_of(container)])
        shared = variables(settings for group in SETTINGS_OF_MODULE.values() for settings in group)
        direct = ours(variable["name"] for variable in container.get("env", []))
        # The settings' ConfigMap is for all services; what one of them reads is not unknown.
        assert direct <= known | KAFKA_SECURITY, module_of(container)
        assert ours(environment_of(container, overlay)) <= shared | KAFKA_SECURITY, module_of(container)


def test_everything_is_set_that_a_service_cannot_do_without(overlay):
    for container in our_containers(overlay):
        required = variables(SETTINGS_OF_MODULE[module_of(container)], required=True)
        given = set(environment_of(container, overlay))
        assert required <= given, module_of(container)
        if module_of(container) == "logue_gateway":
            assert len(given & {"LOGUE_JWT_SECRET", "LOGUE_JWKS_URL"}) == 1


def test_a_value_that_is_made_of_others_comes_after_them(overlay):
    for container in our_containers(overlay):
        before = set()
        for variable in container.get("env", []):
            used = {part.split(")")[0] for part in variable.get("value", "").split("$(")[1:]}
            assert used <= before, variable["name"]
            before.add(variable["name"])


def references(resources, kind):
    """Name and key of every `secretKeyRef` or `configMapKeyRef`."""
    return {
        (reference["name"], reference["key"])
        for pod in pods(resources)
        for container in pod.containers
        for variable in container.get("env", [])
        if (reference := variable.get("valueFrom", {}).get(kind))
    }


def test_settings_that_are_referred_to_exist(overlay):
    configs = of_kind(overlay, "ConfigMap")
    assert all(key in configs[name]["data"] for name, key in references(overlay, "configMapKeyRef"))


def test_the_script_makes_every_secret_of_the_local_overlay(build, repository):
    script = repository / "deploy" / "k8s" / "overlays" / "local" / "secrets.sh"
    made = subprocess.run(["sh", script], check=True, capture_output=True, text=True).stdout
    keys = {(r["metadata"]["name"], key) for r in yaml.safe_load_all(made) if r for key in r["stringData"]}
    assert references(build("overlays/local"), "secretKeyRef") <= keys


def test_secrets_that_nobody_makes_are_documented(production, repository):
    lines = (repository / "docs" / "deploy.md").read_text().splitlines()
    for name, key in references(production, "secretKeyRef"):
        rows = [line for line in lines if line.startswith(f"| `{name}` |")]
        assert name in MADE_BY_OPERATORS or f"`{key}`" in rows[0]


def test_ports_and_probes_are_those_of_the_services(overlay):
    for pod in pods(overlay):
        container = pod.containers[0]
        if (module := module_of(container)) in PORT_OF_MODULE:
            assert container["ports"] == [
                {"name": "http", "containerPort": PORT_OF_MODULE[module]},
                {
                    "name": "metrics",
                    "containerPort": int(environment_of(container, overlay)["LOGUE_METRICS_PORT"]),
                },
            ]
            asked = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
            assert {probe["port"] for probe in asked.values()} == {"http"}
            # A process that waits for Kafka is alive: restarting it would not bring Kafka back.
            assert asked["livenessProbe"]["path"] == "/healthz"
            assert "/readyz" in {probe["path"] for probe in asked.values()}


def test_selectors_find_their_pods(overlay):
    labels = {pod.name: pod.template["metadata"]["labels"] for pod in pods(overlay)}

    def found(selector):
        return [name for name, carried in labels.items() if selector.items() <= carried.items()]

    for service in of_kind(overlay, "Service").values():
        assert len(found(service["spec"]["selector"])) == 1, service["metadata"]["name"]
    budgets = of_kind(overlay, "PodDisruptionBudget").values()
    assert [found(budget["spec"]["selector"]["matchLabels"]) for budget in budgets] == [
        [name] for name in sorted(SERVICES)
    ]
    for pod in pods(overlay):
        for spread in pod.spec.get("topologySpreadConstraints", []):
            assert found(spread["labelSelector"]["matchLabels"]) == [pod.name]


def test_a_service_is_reached_by_the_name_that_others_use(overlay):
    settings = next(
        r for r in of_kind(overlay, "ConfigMap").values() if r["metadata"]["name"].startswith("logue-settings")
    )
    assert settings["data"]["LOGUE_CONVERSATION_URL"] == "http://conversation"
    assert of_kind(overlay, "Service")["conversation"]["spec"]["ports"][0]["port"] == 80


def test_what_runs_may_finish_before_it_is_killed(production):
    deployments = {pod.name: pod for pod in pods(production)}
    drain = AgentSettings.model_fields["agent_drain_seconds"].default
    assert deployments["agent"].grace_seconds >= GRACEFUL_SHUTDOWN_SECONDS + drain + 10
    for name in ("gateway", "conversation"):
        slept = deployments[name].containers[0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert slept >= 5, "endpoints take a moment to be removed everywhere"
        assert deployments[name].grace_seconds >= slept + GRACEFUL_SHUTDOWN_SECONDS + 10


def test_replacing_a_pod_takes_none_away_first(overlay):
    for name in SERVICES:
        spec = named(overlay, "Deployment", name)["spec"]
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert "replicas" not in spec, "an autoscaler's number must not be taken back"


def test_topics_are_those_of_the_code(production):
    topics = of_kind(production, "KafkaTopic")
    partitions = {name: topic["spec"]["partitions"] for name, topic in topics.items()}
    settings = TopicSettings(
        partitions=partitions["chat.requested"],
        stream_partitions=partitions["chat.stream"],
        changed_partitions=partitions["conversation.changed"],
        replication_factor=3,
    )
    assert partitions == {spec.name: spec.partitions for spec in topic_specs(settings)}
    for spec in topic_specs(settings):
        assert topics[spec.name]["spec"]["config"] == spec.config(replication_factor=3)
        assert topics[spec.name]["spec"]["replicas"] == 3


def test_brokers_take_the_largest_record(production):
    config = named(production, "Kafka", "logue")["spec"]["kafka"]["config"]
    assert config["message.max.bytes"] == config["replica.fetch.max.bytes"] == MAX_RECORD_BYTES + 64 * 1024


def test_every_service_logs_in_as_a_user_of_its_own_with_rights_on_topics_that_exist(production):
    users = of_kind(production, "KafkaUser")
    for name in SERVICES:
        container = named(production, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]
        environment = environment_of(container, production)
        assert environment["LOGUE_KAFKA_SASL_USERNAME"] == f"logue-{name}"
        assert environment["LOGUE_KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
    for user in users.values():
        for acl in user["spec"]["authorization"]["acls"]:
            assert acl["resource"]["type"] == "group" or acl["resource"]["name"] in ALL_TOPICS
    assert set(users) == {*(f"logue-{name}" for name in SERVICES), "logue-keda"}


def test_only_the_agent_and_the_reconciler_may_write_outcomes(production):
    writers = {
        name
        for name, user in of_kind(production, "KafkaUser").items()
        for acl in user["spec"]["authorization"]["acls"]
        if acl["resource"]["name"] == "chat.replied" and "Write" in acl["operations"]
    }
    assert writers == {"logue-agent", "logue-conversation"}


def test_autoscalers_stay_within_what_partitions_allow(production):
    scaled, topics = of_kind(production, "ScaledObject"), of_kind(production, "KafkaTopic")
    assert set(scaled) == set(SERVICES)
    assert {s["spec"]["scaleTargetRef"]["name"] for s in scaled.values()} == set(SERVICES)
    assert scaled["agent"]["spec"]["maxReplicaCount"] <= topics["chat.requested"]["spec"]["partitions"]
    own = GatewaySettings.model_fields["gateway_reply_partitions"].default
    assert scaled["gateway"]["spec"]["maxReplicaCount"] * own <= topics["chat.stream"]["spec"]["partitions"]
    for scaler in scaled.values():
        for trigger in scaler["spec"]["triggers"]:
            if trigger["type"] == "kafka":
                assert trigger["metadata"]["topic"] in topics
                assert trigger["authenticationRef"]["name"] in of_kind(production, "TriggerAuthentication")


def test_gateways_are_scaled_by_a_metric_that_they_export(production):
    query = named(production, "ScaledObject", "gateway")["spec"]["triggers"][0]["metadata"]["query"]
    assert next(iter(OPEN_WAITERS.collect())).name in query


def test_kafka_and_postgresql_are_those_of_compose(build, production, repository):
    compose = (repository / "docker-compose.yml").read_text()
    local = {pod.name: pod.containers[0]["image"] for pod in pods(build("overlays/local"))}
    assert local["kafka"] == f"apache/kafka:{named(production, 'Kafka', 'logue')['spec']['kafka']['version']}"
    assert f"image: {local['kafka']}\n" in compose
    assert f"image: {local['postgres']}\n" in compose
    major = named(production, "Cluster", "logue-db")["spec"]["imageCatalogRef"]["major"]
    assert local["postgres"].startswith(f"postgres:{major}.")


def test_nothing_is_allowed_that_is_not_listed(production):
    policies = of_kind(production, "NetworkPolicy")
    denied = policies["default-deny"]["spec"]
    assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name in (*SERVICES, "migration"):
        assert policies[name]["spec"]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": name}
        assert "Egress" in policies[name]["spec"]["policyTypes"]


def test_operations_are_not_for_clients(production):
    paths = named(production, "Ingress", "gateway")["spec"]["rules"][0]["http"]["paths"]
    assert {path["path"] for path in paths} == {"/api", "/docs", "/openapi.json"}
