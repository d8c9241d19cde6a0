from __future__ import annotations

from collections.abc import Iterator

import pytest

from logue_gateway.settings import GatewaySettings
from logue_gateway.streams.reader import own_partitions

_REQUIRED = {
    "LOGUE_KAFKA_BOOTSTRAP": "kafka:9092",
    "LOGUE_CONVERSATION_URL": "http://conversation",
    "LOGUE_INTERNAL_TOKEN": "t" * 16,
    "LOGUE_EVENT_ID_SECRET": "s" * 32,
}


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LOGUE_GATEWAY_INDEX", "LOGUE_GATEWAY_POD"):
            patch.delenv(name, raising=False)
        for name, value in _REQUIRED.items():
            patch.setenv(name, value)
        yield


def test_an_instance_without_number_and_name_is_the_first():
    assert GatewaySettings.load().index == 0


def test_the_number_comes_from_the_name_of_the_pod_and_stays(monkeypatch):
    monkeypatch.setenv("LOGUE_GATEWAY_POD", "gateway-7c9d8b6f5-x2x8q")
    assert GatewaySettings.load().index == GatewaySettings.load().index != 0


def test_a_given_number_wins_over_the_name(monkeypatch):
    monkeypatch.setenv("LOGUE_GATEWAY_POD", "gateway-7c9d8b6f5-x2x8q")
    monkeypatch.setenv("LOGUE_GATEWAY_INDEX", "2")
    assert GatewaySettings.load().index == 2


def test_pods_spread_over_the_partitions(monkeypatch):
    owned: set[int] = set()
    for number in range(100):
        monkeypatch.setenv("LOGUE_GATEWAY_POD", f"gateway-7c9d8b6f5-{number}")
        owned.update(own_partitions(GatewaySettings.load().index, 4, 48))
    assert owned == set(range(48))
