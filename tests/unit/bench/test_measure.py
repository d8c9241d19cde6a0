from __future__ import annotations

import math
import os

import pytest
from tests.bench.measure import CpuClock, quantile, summary


def test_quantile_is_the_nearest_rank():
    values = [float(n) for n in range(100, 0, -1)]
    assert [quantile(values, q) for q in (0.0, 0.5, 0.95, 0.99, 1.0)] == [1, 50, 95, 99, 100]
    assert quantile([7.0], 0.5) == 7


def test_nothing_measured_is_no_number_so_that_no_target_is_reached():
    assert math.isnan(quantile([], 0.5))
    assert not summary([])["p50"] <= 12


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs Linux's /proc")  # noqa: PTH110
def test_cpu_of_this_process_grows():
    clock = CpuClock({"me": os.getpid()})
    before = clock.read()
    while clock.since(before)["load generator"] < 0.05:
        pass
    assert clock.since(before)["me"] > 0
