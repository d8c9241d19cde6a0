"""Server-sent events from the model: data lines, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logue_agent import model_stream
from logue_agent.model_stream import EventLines, LineTooLongError

LINES = st.lists(
    st.one_of(
        st.binary(max_size=12).map(lambda data: b"data: " + data.translate(None, b"\r\n")),
        st.binary(max_size=12).map(lambda data: b"data:" + data.translate(None, b"\r\n")),
        st.sampled_from(
            [b"", b": comment", b"event: x", b"id: 1", b"retry: 5", b"dat", b"data", "data: é👍\u2028".encode()]
        ),
    )
)


def _pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@given(LINES, st.sampled_from([b"\n", b"\r\n"]), st.lists(st.integers(min_value=0), max_size=20))
def test_data_lines_do_not_depend_on_how_the_bytes_are_cut(
    lines: list[bytes], line_end: bytes, cuts: list[int]
) -> None:
    stream = b"".join(line + line_end for line in lines)
    whole = list(EventLines().feed(stream))
    reader = EventLines()
    assert [data for piece in _pieces(stream, cuts) for data in reader.feed(piece)] == whole
    assert whole == [line[5:].strip() for line in lines if line.startswith(b"data:")]


def test_every_byte_alone_makes_the_same() -> None:
    stream = 'data: {"a":"é👍"}\r\n\r\n: ping\n\ndata: [DONE]\n\n'.encode()
    reader = EventLines()
    found = [data for position in range(len(stream)) for data in reader.feed(stream[position : position + 1])]
    assert found == ['{"a":"é👍"}'.encode(), b"[DONE]"]


def test_an_unfinished_line_is_not_handed_out() -> None:
    reader = EventLines()
    assert list(reader.feed(b'data: {"half"')) == []
    assert list(reader.feed(b":1}\n")) == [b'{"half":1}']


def test_an_endless_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_stream, "MAX_LINE_BYTES", 100)
    reader = EventLines()
    list(reader.feed(b"data: " + b"x" * 90))
    with pytest.raises(LineTooLongError):
        list(reader.feed(b"x" * 10))


def test_a_long_line_costs_time_in_proportion_to_its_length() -> None:
    """A megabyte in 16-byte pieces: joining and searching all of it again for each piece would take minutes."""
    reader = EventLines()
    piece = b"x" * 16
    for _ in range(65_536):
        assert list(reader.feed(piece)) == []
    [data] = list(reader.feed(b"\ndata: 1\n"))
    assert data == b"1"
