from __future__ import annotations

import asyncio

import pytest
from tests.bench.model_server import script_of, text_of
from tests.bench.wire import EVENTS, Exchange

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STARTED = b'event: turn.started\ndata: {"conversation_id":"01a2015e-0000-7000-8000-000000000000"}\n\n'
COMPLETED = b"event: message.completed\ndata: {}\n\n"


def delta(text: str) -> bytes:
    return b'event: message.delta\nid: 0.1\ndata: {"delta":"%b"}\n\n' % text.encode()


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def exchange(received: bytes, piece_bytes: int) -> Exchange:
    loop = asyncio.new_event_loop()
    found = Exchange(loop.create_future(), EVENTS, text_of(3).encode())
    loop.close()
    pieces = [received[at : at + piece_bytes] for at in range(0, len(received), piece_bytes)]
    ended = [found.feed(piece) for piece in pieces]
    assert ended[-1]
    assert not any(ended[:-1])
    return found


@pytest.mark.parametrize("piece_bytes", [40, 64, 10_000])
@pytest.mark.parametrize("cut", [1, 30, 60, 90])
def test_a_whole_reply_is_one_wherever_it_is_cut(piece_bytes: int, cut: int):
    body = STARTED + delta("w1") + delta(" w2 w3") + COMPLETED
    found = exchange(HEAD + chunked(body[:cut], body[cut:]), piece_bytes)
    assert found.is_answered, found.error


@pytest.mark.parametrize("deltas", [("w1", " w2"), ("w1", " w2", " w3", " w3"), ("w1", " w3", " w2"), ()])
def test_lost_doubled_and_swapped_tokens_are_errors(deltas: tuple[str, ...]):
    found = exchange(HEAD + chunked(STARTED, *map(delta, deltas), COMPLETED), 10_000)
    assert "wrong text" in found.error


def test_a_reply_without_its_end_is_none():
    assert not exchange(HEAD + chunked(STARTED, delta("w1 w2 w3")), 10_000).is_answered


def test_a_refusal_is_told_from_an_error():
    found = exchange(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}", 10_000)
    assert found.is_refused
    assert not found.is_answered


def test_the_model_obeys_the_last_message():
    body = b'{"messages":[{"content":"{{tokens=5}} a"},{"content":"{{ttft=0.5 gap=0.1 tokens=7}} b"}]}'
    assert script_of(body) == (0.5, 0.1, 7)
    assert script_of(b'{"messages":[]}') == (0.0, 0.0, 20)
