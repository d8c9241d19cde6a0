"""Refuses new turns while the accepted ones wait too long, so that those keep their latency. Pure.

What counts is the time to the first text less what the model took: a slow model is no overload, and neither is a
conversation that waits for itself. When that time stays too long, the number of turns that may wait for their first
text is limited: to what one second's throughput needs at first (Little's law), then up and down by what is measured
(additive increase, multiplicative decrease, as in TCP). Where nothing is answered at all there is nothing to measure:
with the agents away, turns are accepted and wait for them.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from statistics import median, quantiles
from typing import NamedTuple

from logue_common.errors import ProblemError
from logue_gateway import metrics

STEP_SECONDS = 0.25
#: What was measured counts for so long.
WINDOW_SECONDS = 1.0
#: Fewer answers than this in a window say nothing.
MIN_SAMPLES = 5
#: A burst, or the pause of a takeover, is over after so long; what lasts longer, or will, is overload.
PATIENCE_SECONDS = 3.0
#: The limit goes after so long without need of it.
CALM_SECONDS = 5.0
#: Whoever waits longer has lost its frames, or its agent.
FORGOTTEN_SECONDS = 60.0
MIN_LIMIT = 2.0
_DECREASE, _MAX_DECREASE = 0.9, 0.5
#: Half of the turns are faster than this share of the allowed time, so that nearly all keep it.
_AIM = 0.4
_INCREASE = 0.05
#: The best throughput of late counts, each step a little less: half after 9 s.
_PEAK_KEPT = 0.98


class _Asked(NamedTuple):
    began: float
    #: What its request took before.
    before_seconds: float
    exemplar: dict[str, str] | None


class _Sample(NamedTuple):
    began: float
    at: float
    added: float
    model: float


class OverloadGuard:
    """How many turns of this gateway may wait for their first text. `clock` gives monotonic seconds."""

    def __init__(self, max_added_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_added = max_added_seconds
        self._clock = clock
        self._waiting: OrderedDict[str, _Asked] = OrderedDict()
        self._samples: deque[_Sample] = deque()
        self._limit: float | None = None
        self._next_step = 0.0
        self._too_long_since: float | None = None
        self._changed_at = 0.0
        self._peak = 0.0
        self._limited_at = float("-inf")
        self._refused_at = float("-inf")
        self._refused = 0

    @property
    def limit(self) -> float | None:
        """How many may wait; None while there is no overload."""
        return self._limit

    @property
    def waiting(self) -> int:
        """Turns accepted and without their first text."""
        return len(self._waiting)

    def require_room(self) -> None:
        """Raises ProblemError (503 `overloaded`) when one more turn would make all of them late."""
        now = self._clock()
        self._step(now)
        if self._limit is not None and len(self._waiting) >= self._limit:
            self._refused_at = now
            self._refused += 1
            metrics.SHED.inc()
            raise ProblemError("overloaded", "The server has more to do than it can answer in time. Try again shortly.")

    def asked(self, turn_id: str, before_seconds: float = 0.0, exemplar: dict[str, str] | None = None) -> None:
        """A turn begins to wait. What its request took before is shown, but is nothing that waiting longer changes."""
        self._waiting[turn_id] = _Asked(self._clock(), before_seconds, exemplar)
        metrics.TURNS_AHEAD.set(len(self._waiting))

    def answered(self, turn_id: str, model_seconds: float) -> None:
        """A turn's first text is here."""
        asked = self._waiting.pop(turn_id, None)
        if asked is not None:
            now = self._clock()
            waited = now - asked.began
            added = max(0.0, waited - model_seconds)
            metrics.ADDED_SECONDS.observe(asked.before_seconds + added, asked.exemplar)
            metrics.FIRST_TOKEN_SECONDS.observe(asked.before_seconds + waited, asked.exemplar)
            self._samples.append(_Sample(asked.began, now, added, model_seconds))
            metrics.TURNS_AHEAD.set(len(self._waiting))
            self._step(now)

    def forget(self, turn_id: str) -> None:
        """The turn waits for its own conversation, is over, or was not accepted. Idempotent."""
        self._waiting.pop(turn_id, None)
        metrics.TURNS_AHEAD.set(len(self._waiting))

    def _step(self, now: float) -> None:
        if now < self._next_step:
            return
        self._next_step = now + STEP_SECONDS
        while self._waiting and now - next(iter(self._waiting.values())).began > FORGOTTEN_SECONDS:
            self._waiting.popitem(last=False)
        metrics.TURNS_AHEAD.set(len(self._waiting))
        while self._samples and self._samples[0].at < now - WINDOW_SECONDS:
            self._samples.popleft()
        self._peak *= _PEAK_KEPT
        if self._samples and self._samples[0].began >= self._limited_at:
            # What had piled up before the limit comes out faster than anything could go on to.
            self._peak = max(self._throughput(), self._peak)
        known = len(self._samples) >= MIN_SAMPLES
        # A quarter is faster: what is slow is not some partition, some agent or some context.
        too_long = known and quantiles((sample.added for sample in self._samples), n=4)[0] > self._max_added
        if not too_long:
            self._too_long_since = None
        elif self._too_long_since is None:
            self._too_long_since = now
        if self._limit is not None:
            self._adapt(self._limit, now, too_long=too_long)
        elif self._is_overloaded(now):
            self._limit = self._floor()
            self._refused_at = self._changed_at = self._limited_at = now
            self._refused = 0

    def _is_overloaded(self, now: float) -> bool:
        if self._too_long_since is None:
            return False
        excess = len(self._waiting) - self._at_the_model()
        return now - self._too_long_since >= PATIENCE_SECONDS or excess > self._throughput() * PATIENCE_SECONDS

    def _adapt(self, limit: float, now: float, *, too_long: bool) -> None:
        if not too_long and now - self._refused_at > CALM_SECONDS:
            self._limit = None
            self._limited_at = float("-inf")
            return
        # Once per round trip: what was asked before the last change says nothing about it.
        latest = [sample.added for sample in self._samples if sample.began > self._changed_at]
        if len(latest) < MIN_SAMPLES:
            return
        aim, typical = self._max_added * _AIM, median(latest)
        if typical > aim:
            self._limit = max(self._floor(), limit * max(_MAX_DECREASE, min(_DECREASE, aim / typical)))
        elif self._refused:
            self._limit = limit + max(1.0, limit * _INCREASE)
        self._changed_at = now
        self._refused = 0

    def _floor(self) -> float:
        """What keeps the best throughput of late, by Little's law. With less, a slow machine would only become idle."""
        return MIN_LIMIT + self._peak * self._max_added * _AIM + self._at_the_model()

    def _throughput(self) -> float:
        return len(self._samples) / WINDOW_SECONDS

    def _at_the_model(self) -> float:
        """How many wait for the model alone."""
        return self._throughput() * median(sample.model for sample in self._samples) if self._samples else 0.0
