"""docker-compose.yml as Compose itself understands it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from tests.deploy.facts import PORT_OF_MODULE, SETTINGS_OF_MODULE, ours, variables

from logue_conversation.migrate import migrate
from logue_conversation.settings import MigrationSettings
from logue_devstack.postgres import SUPERUSER, Postgres
from logue_devstack.server import free_ports

JOBS = {"topics", "migrate"}
OURS = {
    "gateway": "logue_gateway",
    "agent": "logue_agent",
    "conversation": "logue_conversation",
    "topics": "logue_common.topics",
    "migrate": "logue_conversation.migrate",
}


@pytest.fixture(scope="session")
def services(compose):
    return compose()["services"]


@pytest.fixture(scope="module")
def empty_server(tmp_path_factory) -> Iterator[Postgres]:
    """A PostgreSQL of our own, as the image's is when it runs its scripts: roles belong to the whole server."""
    with Postgres(tmp_path_factory.mktemp("postgres") / "data", free_ports(1)[0], fast=True) as server:
        server.sql("DROP DATABASE logue")
        server.sql("DROP ROLE logue_owner")
        yield server


def test_every_container_is_confined(services):
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert not service.get("privileged"), name


def test_images_have_versions(services):
    for service in services.values():
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", service["image"]), service["image"]


def test_only_loopback_is_published(services):
    for service in services.values():
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", []))


def test_services_start_when_topics_and_tables_are_there(services):
    for name in ("gateway", "agent", "conversation"):
        assert services[name]["depends_on"]["topics"]["condition"] == "service_completed_successfully"
    assert services["conversation"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert services["topics"]["depends_on"]["kafka"]["condition"] == "service_healthy"
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for name in JOBS:
        assert services[name]["restart"] == "on-failure"
        assert services[name]["healthcheck"]["disable"] is True


def test_what_others_wait_for_has_a_health_check(services):
    awaited = {
        name
        for service in services.values()
        for name, wait in service.get("depends_on", {}).items()
        if wait["condition"] == "service_healthy"
    }
    assert {name for name in awaited if "test" not in services[name].get("healthcheck", {})} == set()


def test_readiness_is_asked_where_the_service_listens(services):
    for name in ("gateway", "agent", "conversation"):
        assert f":{PORT_OF_MODULE[OURS[name]]}/readyz" in " ".join(services[name]["healthcheck"]["test"])


def test_services_get_what_they_need_and_nothing_that_they_do_not_read(services):
    for name, module in OURS.items():
        given, settings = set(services[name]["environment"]), SETTINGS_OF_MODULE[module]
        assert ours(given) <= variables(settings), name
        assert variables(settings, required=True) <= given, name


def test_the_demo_model_answers_unless_there_is_a_key_or_an_address(compose):
    def model(**environment):
        given = compose(**environment)["services"]["agent"]["environment"]
        return given["OPENAI_BASE_URL"], given["OPENAI_API_KEY"]

    assert model() == ("http://demo-model:8102/v1", "none")
    assert model(OPENAI_API_KEY="key") == ("https://api.openai.com/v1", "key")
    assert model(OPENAI_BASE_URL="http://models/v1") == ("http://models/v1", "none")
    assert model(OPENAI_API_KEY="key", OPENAI_BASE_URL="http://models/v1") == ("http://models/v1", "key")


def test_no_secret_has_a_default(repository):
    text = (repository / "docker-compose.yml").read_text()
    secrets = re.findall(r"\$\{(\w+(?:PASSWORD|TOKEN|SECRET))(:\?|:-|\})([^}]*)", text)
    # One of the two ways to verify tokens may be left out; the gateway refuses to start with none.
    assert {(name, default) for name, operator, default in secrets if operator != ":?"} == {("LOGUE_JWT_SECRET", "")}


def test_secrets_are_random_and_fit_into_a_url(compose):
    environment = compose()["services"]["migrate"]["environment"]
    passwords = [urlsplit(environment[name]).password for name in sorted(environment) if name.endswith("_URL")]
    assert len(passwords) == len(set(passwords)) == 4
    assert all(re.fullmatch(r"[0-9a-f]{48}", password) for password in passwords)


def test_versions_are_those_that_the_tests_run_with(services, repository, empty_server):
    pom = ET.parse(repository / "libs" / "devstack" / "logue_devstack" / "kafka-pom.xml")  # noqa: S314 (our own file)
    kafka = pom.findtext(".//{*}dependency[{*}artifactId='kafka_2.13']/{*}version")
    assert services["kafka"]["image"] == f"apache/kafka:{kafka}"
    postgres = empty_server.sql("SHOW server_version").strip()
    assert services["postgres"]["image"].startswith(f"postgres:{postgres}")


def test_prometheus_scrapes_every_service_where_it_listens(repository, services):
    config = yaml.safe_load((repository / "deploy" / "prometheus" / "compose.yml").read_text())
    targets = {
        target for job in config["scrape_configs"] for each in job["static_configs"] for target in each["targets"]
    }
    assert targets == {
        f"{name}:{services[name]['environment']['LOGUE_METRICS_PORT']}" for name in ("gateway", "agent", "conversation")
    }
    assert services["prometheus"]["networks"].keys() >= {"services"}


def test_what_is_mounted_from_the_repository_exists(services):
    binds = [mount for service in services.values() for mount in service.get("volumes", []) if mount["type"] == "bind"]
    assert binds
    assert all(Path(mount["source"]).exists() and mount["read_only"] for mount in binds)


def test_the_script_for_an_empty_database_makes_an_owner_that_can_migrate(repository, empty_server, monkeypatch):
    script = repository / "deploy" / "compose" / "create-owner.sh"
    login = {"PGHOST": "127.0.0.1", "PGPORT": str(empty_server.port), "PGUSER": SUPERUSER, "PGPASSWORD": "logue"}
    path = f"{empty_server._bin}:{os.environ['PATH']}"
    subprocess.run(["sh", script], check=True, env={**login, "PATH": path, "LOGUE_OWNER_PASSWORD": "it's"})
    urls = {
        "LOGUE_DATABASE_OWNER_URL": empty_server.url("logue_owner", "it's"),
        "LOGUE_DATABASE_URL": empty_server.url("logue_api", "a"),
        "LOGUE_DATABASE_WRITER_URL": empty_server.url("logue_writer", "w"),
        "LOGUE_DATABASE_RELAY_URL": empty_server.url("logue_relay", "r"),
    }
    for name, value in urls.items():
        monkeypatch.setenv(name, value)
    asyncio.run(migrate(MigrationSettings.load()))
    assert empty_server.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'logue_owner'").strip() == "f"
