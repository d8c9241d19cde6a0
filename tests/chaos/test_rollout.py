"""Every process is replaced in turn under load, short enough for CI: `python -m tests.chaos.rollout` waits as
Kubernetes does.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from tests.chaos.rollout import Plan, run

SEED = int(os.environ.get("LOGUE_CHAOS_SEED") or random.SystemRandom().randrange(2**32))


@pytest.mark.timeout(300)
async def test_no_turn_fails_and_no_character_is_lost_while_every_process_is_replaced(tmp_path: Path) -> None:
    plan = Plan(SEED, users=12, pace=0.1, thinking_seconds=1.0, long_seconds=60.0, calm_seconds=2.0)
    outcome = await run(plan, tmp_path)
    told = json.dumps(outcome.figures, indent=1) + "\n".join(map(str, outcome.violations[:20]))
    print(told)
    assert outcome.is_unnoticed, told
    assert outcome.figures["replaced"] == {"conversation": 2, "agent": 3, "gateway": 3}
    assert outcome.figures["streams_ended_by_a_gateway"] > 0, "no stream was open when a gateway ended"
