"""One direction of a connection through the proxy: what comes in goes out, in order, as the link's condition allows.

Memory is bounded: nobody is read from faster than the other side takes it.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

#: Bytes of ours that wait where a link is slow; beyond them the sender is not read any more. So a delayed connection
#: carries this much per delay.
_HELD_BYTES = 1024 * 1024
#: A throttled link sends a burst of at most this many seconds' worth, and looks again this often.
_BURST_SECONDS = 0.1
_LOOK_SECONDS = 0.02


@dataclass(slots=True)
class Condition:
    """How a link is. At rest it is clear."""

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bytes_per_second: float | None = None
    is_blackhole: bool = False
    is_refusing: bool = False

    @property
    def is_slow(self) -> bool:
        return self.is_delayed or self.bytes_per_second is not None

    @property
    def is_delayed(self) -> bool:
        return self.delay_seconds > 0 or self.jitter_seconds > 0


class Bucket:
    """The bandwidth of one direction of a throttled link, shared by its connections."""

    def __init__(self, condition: Condition) -> None:
        self._condition = condition
        self._tokens = 0.0
        self._at = 0.0

    def take(self, wanted: int, now: float) -> int:
        """How many of the wanted bytes may go now."""
        rate = self._condition.bytes_per_second
        if rate is None:
            return wanted
        self._tokens = min(self._tokens + (now - self._at) * rate, max(rate * _BURST_SECONDS, 1.0))
        self._at = now
        granted = min(wanted, int(self._tokens))
        self._tokens -= granted
        return granted


class Pipe:
    """One direction of a connection: what comes from `source` goes to `sink`, in order, when the link lets it."""

    def __init__(
        self, condition: Condition, bucket: Bucket, jitter: random.Random, finished: Callable[[], None]
    ) -> None:
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self.sink_is_full = False
        self.is_finished = False
        self._condition = condition
        self._bucket = bucket
        self._jitter = jitter
        self._finished = finished
        self._held: deque[tuple[float, memoryview]] = deque()
        self._held_bytes = 0
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None

    def feed(self, data: bytes) -> None:
        if self._held or self.sink is None or self._condition.is_blackhole or self._condition.is_slow:
            self._hold(data)
            self.go_on()
        else:
            self.sink.write(data)

    def end(self) -> None:
        """The source said that nothing more comes; the other direction goes on."""
        self._ended = True
        if self._condition.is_delayed:
            self._hold(b"")
        self.go_on()

    def go_on(self) -> None:
        """Send what may be sent now, and read on or wait, as the link and the sink allow."""
        self.cancel()
        if self.sink is not None and not self._condition.is_blackhole:
            self._send_due(self.sink)
            if self._ended and not self._held and not self.is_finished:
                self.is_finished = True
                if not self.sink.is_closing():
                    self.sink.write_eof()
                self._finished()
        self.steer()

    def steer(self) -> None:
        """Stop reading from the source, or go on."""
        if self.source is None or self.source.is_closing() or self._ended:
            return
        if self.sink is None or self.sink_is_full or self._condition.is_blackhole or self._held_bytes >= _HELD_BYTES:
            self.source.pause_reading()
        else:
            self.source.resume_reading()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hold(self, data: bytes) -> None:
        spread = self._condition.jitter_seconds
        delay = max(0.0, self._condition.delay_seconds + self._jitter.uniform(-spread, spread))
        due = asyncio.get_running_loop().time() + delay
        if self._held:
            due = max(due, self._held[-1][0])
        self._held.append((due, memoryview(data)))
        self._held_bytes += len(data)

    def _send_due(self, sink: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._held and not self.sink_is_full:
            due, data = self._held[0]
            if self._condition.is_delayed and due > now:
                self._timer = loop.call_at(due, self.go_on)
                return
            granted = self._bucket.take(len(data), now)
            if granted:
                sink.write(data[:granted])
                self._held_bytes -= granted
            if granted < len(data):
                self._held[0] = (due, data[granted:])
                self._timer = loop.call_later(_LOOK_SECONDS, self.go_on)
                return
            self._held.popleft()
