"""Everything at once, from a printed seed (LOGUE_CHAOS_SEED), for as long as CI has time (LOGUE_CHAOS_SECONDS)."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from tests.chaos.cluster import missing
from tests.chaos.run import Plan, run

SEED = int(os.environ.get("LOGUE_CHAOS_SEED") or random.SystemRandom().randrange(2**32))
SECONDS = float(os.environ.get("LOGUE_CHAOS_SECONDS") or 150)


@pytest.mark.apache
@pytest.mark.timeout(SECONDS + 400)
async def test_nothing_is_lost_doubled_reordered_or_shown_to_others(tmp_path: Path) -> None:
    if lacks := missing():
        pytest.skip(" ".join(lacks))
    verdict = await run(Plan(SECONDS, SEED, pace=0.5, rest_seconds=(1.0, 3.0)), tmp_path)
    print(verdict.text)
    assert not verdict.violations, verdict.text
    assert verdict.figures["acknowledged"] > SECONDS / 2, "the workload stood still"
