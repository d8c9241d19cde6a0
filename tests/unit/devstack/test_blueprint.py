from __future__ import annotations

import threading
from pathlib import Path

import pytest

from logue_devstack.apache_kafka import ApacheKafka, broker_settings
from logue_devstack.blueprint import Blueprint, BrokerKind, kind_of
from logue_devstack.credentials import Credentials
from logue_devstack.ports import Ports


def blueprint(data_dir: Path, **changes: object) -> Blueprint:
    plain = {
        "data_dir": data_dir,
        "broker": BrokerKind.APACHE,
        "ports": Ports.standard(gateways=2, agents=2),
        "credentials": Credentials(),
        "stopping": threading.Event(),
    }
    return Blueprint(**(plain | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("agent-12", "agent"), ("broker-1", "broker"), ("broker", "broker"), ("demo-model", "demo-model")],
)
def test_kind_is_the_name_without_its_number(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_without_routes_everything_is_reached_directly(tmp_path: Path) -> None:
    environment = {service.name: service.environment for service in blueprint(tmp_path).services()}
    assert list(environment) == ["conversation", "agent-0", "agent-1", "gateway-0", "gateway-1"]
    assert {each["LOGUE_KAFKA_BOOTSTRAP"] for each in environment.values()} == {"127.0.0.1:8101"}
    assert environment["gateway-0"]["LOGUE_CONVERSATION_URL"] == "http://127.0.0.1:8103"
    assert "@127.0.0.1:8100/logue" in environment["conversation"]["LOGUE_DATABASE_WRITER_URL"]


def test_route_changes_one_address_of_one_process_or_of_a_kind(tmp_path: Path) -> None:
    routes = {
        ("agent", "broker"): "127.0.0.1:1",
        ("agent-1", "broker"): "127.0.0.1:2,127.0.0.1:3",
        ("agent", "demo-model"): "127.0.0.1:4",
        ("gateway-0", "conversation"): "127.0.0.1:5",
        ("conversation", "postgres"): "127.0.0.1:6",
    }
    plan = blueprint(tmp_path, routes=routes, environment={"OPENAI_API_KEY": ""})
    environment = {service.name: service.environment for service in plan.services()}
    assert environment["agent-0"]["LOGUE_KAFKA_BOOTSTRAP"] == "127.0.0.1:1"
    assert environment["agent-1"]["LOGUE_KAFKA_BOOTSTRAP"] == "127.0.0.1:2,127.0.0.1:3"
    assert environment["agent-1"]["OPENAI_BASE_URL"] == "http://127.0.0.1:4/v1"
    assert environment["gateway-0"]["LOGUE_CONVERSATION_URL"] == "http://127.0.0.1:5"
    assert environment["gateway-1"]["LOGUE_CONVERSATION_URL"] == "http://127.0.0.1:8103"
    assert environment["gateway-0"]["LOGUE_KAFKA_BOOTSTRAP"] == "127.0.0.1:8101"
    assert "@127.0.0.1:6/logue" in environment["conversation"]["LOGUE_DATABASE_URL"]
    assert "@127.0.0.1:8100/logue" in plan.shared_environment("migrations")["LOGUE_DATABASE_OWNER_URL"]


def test_commands_that_end_have_an_environment_of_their_own_too(tmp_path: Path) -> None:
    plan = blueprint(tmp_path, service_environment={"topics": {"LOGUE_KAFKA_SASL_USERNAME": "logue-topics"}})
    assert plan.command_environment("topics")["LOGUE_KAFKA_SASL_USERNAME"] == "logue-topics"
    assert "LOGUE_KAFKA_SASL_USERNAME" not in plan.command_environment("migrations")


def test_several_conversation_services_are_numbered(tmp_path: Path) -> None:
    plan = blueprint(tmp_path, ports=Ports.random(gateways=1, agents=1, conversations=2))
    names = {service.name: service.port for service in plan.services()}
    assert list(names) == ["conversation-0", "conversation-1", "agent-0", "gateway-0"]
    assert (names["conversation-0"], names["conversation-1"]) == plan.ports.conversations


def test_nodes_of_a_cluster_take_the_place_of_the_broker(tmp_path: Path) -> None:
    def nodes(plan: Blueprint) -> list[ApacheKafka]:
        return [
            ApacheKafka(plan.store / f"broker-{n}", n, name=f"broker-{n}", settings=broker_settings(n, n + 10))
            for n in (1, 2)
        ]

    plan = blueprint(tmp_path, brokers=nodes)
    assert [server.name for server in plan.broker_servers()] == ["broker-1", "broker-2"]
    assert plan.bootstrap == plan.shared_environment("topics")["LOGUE_KAFKA_BOOTSTRAP"] == "127.0.0.1:1,127.0.0.1:2"
