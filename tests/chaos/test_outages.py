"""Long outages, short enough for CI: `python -m tests.chaos.outages` takes five minutes for each."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.chaos.outages import OUTAGES, measure

from logue_devstack.stack import Stack


@pytest.mark.timeout(400)
@pytest.mark.parametrize("what", OUTAGES)
async def test_what_can_go_on_goes_on_and_nothing_is_lost(what: str, tmp_path: Path) -> None:
    with Stack(tmp_path, gateways=2, agents=2) as stack:
        _, found = await measure(stack, what, 10.0, seed=1)
    outage = found["outage"]
    assert outage["violations"] == []
    assert outage["accepted_meanwhile"] > 0
    if what != "agents":
        assert outage["answered_meanwhile"] > 3
