"""Coalescing: nothing waits when there is time, nothing waits longer than 40 ms when there is not."""

from __future__ import annotations

import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from logue_agent.coalesce import MAX_WAIT_SECONDS, Coalescer


class Coalescing(RuleBasedStateMachine):
    """A driver as FrameWriter is: it sends when told to, and when the text is due."""

    def __init__(self) -> None:
        super().__init__()
        self.coalescer = Coalescer()
        self.now = 0.0
        self.said: list[tuple[str, float]] = []
        self.sent: list[tuple[str, float]] = []
        self.unacknowledged = 0

    def _send(self) -> None:
        text = self.coalescer.take()
        note(f"{self.now}: send {text!r}")
        assert text
        self.coalescer.sent()
        self.unacknowledged += 1
        self.sent.append((text, self.now))

    @rule(piece=st.text("abc", min_size=1, max_size=3))
    def say(self, piece: str) -> None:
        idle = self.unacknowledged == 0
        self.said.append((piece, self.now))
        told = self.coalescer.add(piece, self.now)
        assert told or not idle, "nothing waits when nothing is under way"
        if told:
            self._send()

    @rule(milliseconds=st.integers(min_value=0, max_value=100))
    def wait(self, milliseconds: int) -> None:
        until = self.now + milliseconds / 1000
        due_at = self.coalescer.due_at
        if due_at is not None and due_at <= until:
            self.now = max(self.now, due_at)
            self._send()
        self.now = until

    @rule()
    def acknowledge(self) -> None:
        if self.unacknowledged:
            self.unacknowledged -= 1
            if self.coalescer.acknowledged():
                self._send()

    @invariant()
    def nothing_is_lost_or_reordered(self) -> None:
        said = "".join(piece for piece, _ in self.said)
        sent = "".join(text for text, _ in self.sent)
        assert said.startswith(sent)
        assert (self.coalescer.due_at is None) == (said == sent)
        assert len(sent) == len(said) or self.unacknowledged > 0, "text waits only for an acknowledgement"

    @invariant()
    def nothing_waits_longer_than_40_ms(self) -> None:
        remaining = len("".join(text for text, _ in self.sent))
        for piece, at in self.said:
            if remaining >= len(piece):
                remaining -= len(piece)
            else:
                assert self.now - at <= MAX_WAIT_SECONDS + 1e-9
                break


TestCoalescing = Coalescing.TestCase
TestCoalescing.settings = settings(max_examples=100, stateful_step_count=40)


def test_the_first_piece_goes_at_once_and_later_ones_gather_until_it_is_acknowledged() -> None:
    coalescer = Coalescer()
    assert coalescer.add("a", 1.0)
    assert coalescer.take() == "a"
    coalescer.sent()
    assert not coalescer.add("b", 1.001)
    assert not coalescer.add("c", 1.002)
    assert coalescer.due_at == pytest.approx(1.041)
    assert coalescer.acknowledged()
    assert coalescer.take() == "bc"
    assert coalescer.due_at is None
    assert coalescer.take() == ""


def test_a_piece_that_finds_older_text_due_goes_with_it() -> None:
    coalescer = Coalescer()
    coalescer.sent()
    assert not coalescer.add("a", 1.0)
    assert coalescer.add("b", 1.04)
    assert coalescer.take() == "ab"


def test_frames_without_text_count_as_under_way() -> None:
    coalescer = Coalescer()
    coalescer.sent()
    coalescer.sent()
    assert not coalescer.add("a", 1.0)
    assert not coalescer.acknowledged(), "another one is still under way"
    assert coalescer.acknowledged()
