"""/metrics on a port of its own, in the processes as they run in production."""

from __future__ import annotations

import httpx
import pytest

from logue_devstack.stack import Stack


@pytest.mark.parametrize(
    ("service", "process"), [("gateway", "gateway-0"), ("agent", "agent-0"), ("conversation",) * 2]
)
def test_metrics_are_there_and_nowhere_else(
    stack: Stack, metrics_ports: dict[str, int], service: str, process: str
) -> None:
    usual = f"http://127.0.0.1:{stack.server(process).port}"
    assert httpx.get(f"{usual}/metrics").status_code == 404
    assert httpx.get(f"{usual}/healthz").status_code == 200
    shown = httpx.get(f"http://127.0.0.1:{metrics_ports[service]}/metrics").text
    assert f"logue_{service}_" in shown
    assert 'logue_build_info{revision="",version="' in shown
