"""What is no proper HTTP/1.1: refused as a problem, never understood differently than a proxy would."""

from __future__ import annotations

import asyncio

import pytest
from tests.hostile.conftest import AT_ONCE_SECONDS, resident_mib
from tests.hostile.wire import JSON, Target

from logue_common.http_server import MAX_HEAD_BYTES, MAX_HEADERS
from logue_devstack.stack import Stack

_BODY = b'{"message": "{{tokens=1}} hi"}'
_CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_BODY), _BODY)
_LENGTH = b"Content-Length: %d\r\n" % len(_BODY)
_TE = b"Transfer-Encoding: chunked\r\n"

_REFUSED = {
    "two lengths": (_LENGTH + _LENGTH, _BODY),
    "two lengths that differ": (_LENGTH + b"Content-Length: 1\r\n", _BODY),
    "two lengths in one": (b"Content-Length: 30, 30\r\n", _BODY),
    "length and chunked": (_LENGTH + _TE, _CHUNKED),
    "chunked and length": (_TE + _LENGTH, _CHUNKED),
    "negative length": (b"Content-Length: -1\r\n", _BODY),
    "signed length": (b"Content-Length: +30\r\n", _BODY),
    "hexadecimal length": (b"Content-Length: 0x1e\r\n", _BODY),
    "endless length": (b"Content-Length: 99999999999999999999999999\r\n", _BODY),
    "length with a fraction": (b"Content-Length: 30.0\r\n", _BODY),
    "chunked twice": (_TE + _TE, _CHUNKED),
    "chunked by another name": (b"Transfer-Encoding: xchunked\r\n", _CHUNKED),
    "chunked with a tab": (b"Transfer-Encoding:\tchunked, identity\r\n", _CHUNKED),
    "chunked in quotes": (b'Transfer-Encoding: "chunked"\r\n', _CHUNKED),
    "a blank before the colon": (b"Transfer-Encoding : chunked\r\n", _CHUNKED),
    "a coding that is not understood": (b"Transfer-Encoding: gzip, chunked\r\n", _CHUNKED),
    "identity": (b"Transfer-Encoding: identity\r\n", _CHUNKED),
    "chunk of endless size": (_TE, b"fffffffffffffffff\r\n"),
    "chunk of negative size": (_TE, b"-1\r\n\r\n"),
    "chunk without an end": (_TE, b"1\r\nab\r\n0\r\n\r\n"),
    "a folded header": (_LENGTH + b"X-A: b\r\n c\r\n", _BODY),
    "a header without a colon": (_LENGTH + b"X-A\r\n", _BODY),
    "a header without a name": (_LENGTH + b": x\r\n", _BODY),
    "NUL in a header": (_LENGTH + b"X-A: b\x00c\r\n", _BODY),
    "CR in a header": (_LENGTH + b"X-A: b\rc\r\n", _BODY),
    "a lone LF": (_LENGTH + b"X-A: b\nX-B: c\r\n", _BODY),
    "two hosts": (_LENGTH + b"Host: other\r\n", _BODY),
}


@pytest.mark.parametrize("name", _REFUSED)
async def test_ambiguous_messages_are_refused(target: Target, name: str) -> None:
    headers, body = _REFUSED[name]
    answer = await target.exchange(target.request(b"POST", b"chat", headers=JSON + headers, body=body))
    assert (answer.status, answer.problem()["code"]) == (400, "bad_request")
    assert answer.headers["connection"] == "close"


_HEADS = {
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    "an unknown method": (b"BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a method in lower case": (b"get /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "an unknown version": (b"GET /healthz HTTP/1.9\r\nHost: x\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a tunnel": (b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "TLS": (bytes.fromhex("16030102000100020001fc0303"), 400),
    "noise": (bytes(range(256)), 400),
    "bare LF": (b"GET /healthz HTTP/1.1\nHost: x\n\n", 400),
    "a path in another encoding": (b"GET /api/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a path that is too long": (b"GET /" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
    "a query that is too long": (b"GET /?" + b"a&" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
    "a header that is too long": (b"GET / HTTP/1.1\r\nHost: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n", 431),
    "a name that is too long": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"x" * MAX_HEAD_BYTES + b": y\r\n\r\n", 431),
    "too many headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:b\r\n" * MAX_HEADERS + b"\r\n", 431),
    "a head that never ends": (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 2 * MAX_HEAD_BYTES, 431),
}


@pytest.mark.parametrize("name", _HEADS)
async def test_heads_are_bounded_and_well_formed(target: Target, name: str) -> None:
    sent, status = _HEADS[name]
    # In two pieces: a head may be found too large only when it goes on.
    answer = await target.exchange(sent[: len(sent) // 2], sent[len(sent) // 2 :])
    # A client that still sends while it is refused may get a reset instead of the answer.
    assert answer.status == status or (answer.closed and status == 431)
    if answer.status:
        assert answer.problem()["code"] == ("bad_request" if status == 400 else "head_too_large")


async def test_a_head_of_the_largest_size_is_served(target: Target) -> None:
    room = MAX_HEAD_BYTES - len(target.request(b"GET", b"/healthz")) - 100
    answer = await target.exchange(target.request(b"GET", b"/healthz", headers=b"X-A: " + b"a" * room + b"\r\n"))
    assert answer.status == 200


async def test_headers_of_the_gateway_cannot_be_sent_as_trailers(target: Target) -> None:
    """A proxy that takes credentials out of the head, or checks them there, never sees a trailer."""
    head = b"POST /api/%b/chat HTTP/1.1\r\nHost: x\r\n%b%b\r\n" % (target.user.encode(), JSON, _TE)
    trailer = _CHUNKED.removesuffix(b"\r\n") + target.authorization + b"\r\n"
    answer = await target.exchange(head + trailer)
    assert (answer.status, answer.problem()["code"]) == (401, "unauthorized")


_MIB = b"x" * 2**20


async def _send_for_ever(writer: asyncio.StreamWriter) -> None:
    for _ in range(200):
        writer.write(_MIB)
        await writer.drain()


@pytest.mark.parametrize(
    ("headers", "begin"),
    [
        (_TE, b"0\r\nX: "),
        (_TE, b"1;"),
        (_TE, b"fffffff\r\n"),
        (b"Content-Length: 999999999\r\n", b""),
    ],
    ids=["trailer", "extension", "chunk", "body"],
)
async def test_nothing_goes_on_for_ever(stack: Stack, target: Target, headers: bytes, begin: bytes) -> None:
    """Neither what is kept by the parser, nor what was answered with 413 long ago."""
    before = resident_mib(stack)
    sent = target.request(b"GET", b"/healthz", headers=headers) + begin
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(sent)
    with pytest.raises(ConnectionError):
        await _send_for_ever(writer)
    assert resident_mib(stack) < before + 50
    writer.transport.abort()
    reader.feed_eof()


async def test_a_request_smuggled_in_a_body_is_body(target: Target) -> None:
    """What follows the end of a body by Content-Length is a request of its own, with credentials of its own."""
    smuggled = b"GET /api/%b/conversations HTTP/1.1\r\nHost: x\r\n\r\n" % target.user.encode()
    sent = target.request(b"GET", b"/healthz", headers=b"Content-Length: %d\r\n" % len(smuggled), body=smuggled)
    answer = await target.exchange(sent + target.request(b"GET", b"/nowhere"), wait=1)
    assert answer.raw.count(b"HTTP/1.1 ") <= 2
    assert b" 401 " not in answer.raw
    followed = sent.removesuffix(smuggled).replace(b"Content-Length: %d" % len(smuggled), b"Content-Length: 0")
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(followed + smuggled)
    async with asyncio.timeout(10):
        assert b" 200 " in await reader.readuntil(b'{"status":"ok"}')
        assert b" 401 " in await reader.readline()
    writer.transport.abort()


@pytest.mark.parametrize("upgrade", [b"websocket", b"h2c", b"TLS/1.0"])
async def test_nothing_is_upgraded(target: Target, upgrade: bytes) -> None:
    headers = b"Connection: Upgrade\r\nUpgrade: " + upgrade + b"\r\n"
    answer = await target.exchange(target.request(b"GET", b"/healthz", headers=headers), b"\x00\x01junk" * 10)
    assert answer.status == 200
    assert answer.headers["connection"] == "close"


async def test_requests_sent_ahead_cost_nothing(stack: Stack, target: Target) -> None:
    """Twenty connections with 40,000 requests each on the wire held the gateway for 13 s and took 1.7 GB."""
    before = resident_mib(stack)
    ahead = target.request(b"GET", b"/healthz") * 5_000
    answers = await asyncio.gather(*(target.exchange(ahead, wait=5) for _ in range(20)))
    assert all(answer.raw.count(b"HTTP/1.1 200") < 100 for answer in answers)
    assert (await target.exchange(target.request(b"GET", b"/healthz"))).seconds < AT_ONCE_SECONDS
    assert resident_mib(stack) < before + 50


async def test_a_few_requests_sent_ahead_are_answered_in_order(target: Target) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(b"".join(target.request(b"GET", b"/healthz" if n % 2 else b"/nowhere") for n in range(6)))
    for n in range(6):
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
            await reader.readexactly(length)
        assert head.startswith(b"HTTP/1.1 200" if n % 2 else b"HTTP/1.1 404")
    writer.transport.abort()
