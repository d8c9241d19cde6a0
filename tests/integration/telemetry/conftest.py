"""The whole system, with every trace recorded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.telemetry.collector import Collector, collector

from logue_devstack.stack import Stack


@pytest.fixture(scope="session")
def traces() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, traces: Collector) -> Iterator[Stack]:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": traces.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with Stack(
        tmp_path_factory.mktemp("telemetry"), fast_postgres=True, environment=environment, gateways=1, agents=1
    ) as running:
        yield running
