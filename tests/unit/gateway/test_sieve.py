"""Whatever the log does to frames, the text that a client assembles is the outcome's."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from logue_common import frames
from logue_common.frames import FrameHeader, delta_data, snapshot_data, sse_data
from logue_gateway.streams.sieve import Shown, Sieve


@dataclass(frozen=True)
class Frame:
    attempt: int
    n: int
    kind: str
    value: bytes

    @property
    def header(self) -> FrameHeader:
        return FrameHeader("ann", self.attempt, self.n, self.kind)


def shown_text(events: list[Shown], text: str = "") -> str:
    for event in events:
        data = orjson.loads(event.data)
        if event.kind == frames.DELTA:
            text += data["delta"]
        elif event.kind == frames.RESET:
            text = ""
        elif event.kind == frames.SNAPSHOT:
            text = data["content"]
    return text


def completed(text: str) -> bytes:
    return sse_data({"message": {"content": text}})


@st.composite
def attempts(draw: st.DrawFn) -> list[list[Frame]]:
    """What some owners wrote, each its own text, with checkpoints, resets, snapshots and queue positions."""
    written = []
    for attempt in range(1, draw(st.integers(1, 4)) + 1):
        text, script = "", []
        kinds = draw(st.lists(st.sampled_from(["delta", "delta", "checkpoint", "reset", "snapshot", "queued"])))
        for n, kind in enumerate(kinds, start=1):
            match kind:
                case "delta":
                    piece = f"{attempt}.{n} "
                    text += piece
                    script.append(Frame(attempt, n, frames.DELTA, delta_data(piece)))
                case "checkpoint":
                    script.append(Frame(attempt, n, frames.CHECKPOINT, snapshot_data(text)))
                case "reset":
                    text = ""
                    script.append(Frame(attempt, n, frames.RESET, sse_data({"attempt": attempt, "reason": "x"})))
                case "snapshot":
                    text = f"[{attempt}.{n}]"
                    script.append(Frame(attempt, n, frames.SNAPSHOT, snapshot_data(text)))
                case _:
                    script.append(Frame(attempt, n, frames.QUEUED, sse_data({"position": n})))
        written.append([*script, Frame(attempt, len(script) + 1, frames.COMPLETED, completed(text))])
    return written


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Frame], str]:
    """A log: frames of all attempts interleaved, some lost, some twice, then the end of one attempt. And its text."""
    written = draw(attempts())
    winner = draw(st.sampled_from(written))
    pool = [frame for script in written for frame in script[:-1]]
    ordered = draw(st.booleans())
    log = pool if ordered else draw(st.permutations(pool))
    kept = [frame for frame in log if draw(st.integers(0, 9)) > 1]
    again = draw(st.lists(st.sampled_from(pool), max_size=5)) if pool else []
    for frame in again:
        kept.insert(draw(st.integers(0, len(kept))), frame)
    text = orjson.loads(winner[-1].value)["message"]["content"]
    return [*kept, winner[-1], winner[-1], *draw(st.permutations(pool))[:3]], text


@settings(max_examples=400, deadline=None)
@given(logs())
def test_the_assembled_text_is_the_outcomes_text(log: tuple[list[Frame], str]) -> None:
    written, text = log
    sieve = Sieve()
    events = [event for frame in written for event in sieve.feed(frame.header, frame.value)]
    assert shown_text(events) == text
    assert [event.kind for event in events].count(frames.COMPLETED) == 1
    assert events[-1].kind == frames.COMPLETED


@settings(max_examples=300, deadline=None)
@given(logs(), st.data())
def test_a_client_that_resumes_at_any_event_assembles_the_same(
    log: tuple[list[Frame], str], data: st.DataObject
) -> None:
    """An id says: seen up to this offset, and up to (attempt, n). The rest of the log completes it."""
    written, text = log
    sieve = Sieve()
    events: list[tuple[Shown, int]] = [
        (event, offset if event.covers else offset - 1)
        for offset, frame in enumerate(written)
        for event in sieve.feed(frame.header, frame.value)
    ]
    cut = data.draw(st.integers(0, len(events) - 1))
    seen, offset = events[cut]
    if seen.kind == frames.COMPLETED:
        return
    before = shown_text([event for event, _ in events[: cut + 1]])
    resumed = Sieve(seen.attempt, seen.n, shows_text=seen.attempt > 0)
    rest = [event for frame in written[offset + 1 :] for event in resumed.feed(frame.header, frame.value)]
    assert shown_text(rest, before) == text


@settings(max_examples=200, deadline=None)
@given(attempts())
def test_an_undisturbed_log_passes_through_frame_by_frame(written: list[list[Frame]]) -> None:
    sieve = Sieve()
    for frame in written[0]:
        events = sieve.feed(frame.header, frame.value)
        if frame.kind in (frames.DELTA, frames.QUEUED, frames.COMPLETED):
            assert events == (Shown(frame.kind, frame.value, frame.attempt, frame.n),)
        if frame.kind == frames.CHECKPOINT and frame.n > 1:  # as an attempt's first frame it replaces older text
            assert events == ()
        assert not sieve.gapped


def test_a_new_attempt_takes_back_what_was_shown() -> None:
    sieve = Sieve()
    sieve.feed(FrameHeader("ann", 1, 1, frames.DELTA), delta_data("old"))
    reset, delta = sieve.feed(FrameHeader("ann", 2, 1, frames.DELTA), delta_data("new"))
    assert (reset.kind, reset.attempt, reset.n, reset.covers) == (frames.RESET, 1, 1, False)
    assert orjson.loads(reset.data)["attempt"] == 2
    assert (delta.kind, delta.attempt, delta.n, delta.covers) == (frames.DELTA, 2, 1, True)


def test_a_reset_with_nothing_shown_is_swallowed_but_counted() -> None:
    sieve = Sieve()
    assert sieve.feed(FrameHeader("ann", 1, 1, frames.RESET), b"{}") == ()
    assert len(sieve.feed(FrameHeader("ann", 1, 2, frames.DELTA), delta_data("x"))) == 1


def test_a_failed_end_brings_no_snapshot() -> None:
    sieve = Sieve()
    events = sieve.feed(FrameHeader("ann", 7, 12, frames.FAILED), b"{}")
    assert [event.kind for event in events] == [frames.FAILED]


def test_frames_after_a_gap_wait_for_the_missing_one_or_a_checkpoint() -> None:
    sieve = Sieve(1, 3, shows_text=True)
    assert sieve.feed(FrameHeader("ann", 1, 5, frames.DELTA), delta_data("5")) == ()
    assert sieve.gapped
    assert len(sieve.feed(FrameHeader("ann", 1, 4, frames.DELTA), delta_data("4"))) == 1
    assert not sieve.gapped
    snapshot = sieve.feed(FrameHeader("ann", 1, 9, frames.CHECKPOINT), snapshot_data("all"))
    assert [event.kind for event in snapshot] == [frames.SNAPSHOT]


def test_a_model_that_is_slow_to_begin_adds_no_empty_snapshot() -> None:
    sieve = Sieve()
    assert sieve.feed(FrameHeader("ann", 1, 1, frames.CHECKPOINT), snapshot_data("")) == ()
    assert sieve.feed(FrameHeader("ann", 1, 2, frames.CHECKPOINT), snapshot_data("")) == ()
    first = sieve.feed(FrameHeader("ann", 1, 3, frames.DELTA), delta_data("so"))
    assert [event.kind for event in first] == [frames.DELTA]


def test_an_empty_checkpoint_of_a_later_attempt_takes_shown_text_back() -> None:
    sieve = Sieve(1, 3, shows_text=True)
    taken_back = sieve.feed(FrameHeader("ann", 2, 1, frames.CHECKPOINT), snapshot_data(""))
    assert shown_text(list(taken_back), "old") == ""
