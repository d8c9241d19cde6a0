"""The whole system, with every trace recorded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.telemetry.collector import Collector, collector

from logue_devstack.server import free_ports
from logue_devstack.stack import Stack


@pytest.fixture(scope="package")
def traces() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="package")
def metrics_ports() -> dict[str, int]:
    """A port of its own for the metrics of each service."""
    services = ("gateway", "agent", "conversation")
    return dict(zip(services, free_ports(len(services)), strict=True))


@pytest.fixture(scope="package")
def stack(
    tmp_path_factory: pytest.TempPathFactory, traces: Collector, metrics_ports: dict[str, int]
) -> Iterator[Stack]:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": traces.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    ports = {service: {"LOGUE_METRICS_PORT": str(port)} for service, port in metrics_ports.items()}
    with Stack(
        tmp_path_factory.mktemp("telemetry"), fast_postgres=True, environment=environment, service_environment=ports
    ) as running:
        yield running
