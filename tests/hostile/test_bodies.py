"""Bodies that two parsers read differently, that are larger than they look, or that hurt whoever reads them."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from tests.e2e.client import Client
from tests.hostile.conftest import resident_mib
from tests.hostile.wire import JSON, Target

from logue_devstack.stack import Stack

_HI = '"message": "{{tokens=1}} hi"'


def _deep(times: int) -> bytes:
    return f'{{{_HI}, "metadata": {{"a": {"[" * times}1{"]" * times}}}}}'.encode()


_BODIES: dict[str, tuple[bytes, int]] = {
    "a message twice": (b'{"message": "", "message": "{{tokens=1}} hi"}', 200),
    "a message twice, the last is bad": (b'{"message": "{{tokens=1}} hi", "message": ""}', 422),
    "a byte order mark": (b"\xef\xbb\xbf{%b}" % _HI.encode(), 400),
    "UTF-16": (f"{{{_HI}}}".encode("utf-16"), 400),
    "UTF-32": (f"{{{_HI}}}".encode("utf-32"), 400),
    "overlong UTF-8": (b'{"message": "\xc0\xaf"}', 400),
    "a surrogate in UTF-8": (b'{"message": "\xed\xa0\x80"}', 400),
    "a lone surrogate": (b'{"message": "\\udfff"}', 422),
    "NUL": (b'{"message": "{{tokens=1}} \\u0000"}', 200),
    "raw NUL": (b'{"message": "{{tokens=1}} \x00"}', 400),
    "NUL behind it": (b"{%b}\x00" % _HI.encode(), 400),
    "NaN": (f'{{{_HI}, "metadata": {{"a": NaN}}}}'.encode(), 400),
    "Infinity": (f'{{{_HI}, "metadata": {{"a": -Infinity}}}}'.encode(), 400),
    "beyond a double": (f'{{{_HI}, "metadata": {{"a": 1e999}}}}'.encode(), 400),
    "308 digits": (f'{{{_HI}, "metadata": {{"a": {"9" * 308}}}}}'.encode(), 200),
    "5,000 digits": (f'{{{_HI}, "metadata": {{"a": {"9" * 5000}}}}}'.encode(), 400),
    "5,000 decimals": (f'{{{_HI}, "metadata": {{"a": 0.{"9" * 5000}}}}}'.encode(), 200),
    "a negative zero": (f'{{{_HI}, "metadata": {{"a": -0.0}}}}'.encode(), 200),
    "15 levels": (_deep(14), 200),
    "17 levels": (_deep(17), 422),
    "900 levels": (_deep(900), 422),
    "100,000 levels": (_deep(100_000), 400),
    "100,000 open brackets": (b"[" * 100_000, 400),
    "100,000 names": (b"{%b}" % b",".join(b'"%d":0' % n for n in range(100_000)), 422),
    "one name 100,000 times": (b"{" + b'"a":0,' * 100_000 + b'"a":0}', 422),
    "a name of 500 KiB": (b'{"%b": 1}' % (b"x" * 500_000), 422),
    "__proto__": (f'{{{_HI}, "metadata": {{"__proto__": {{"x": 1}}, "constructor": 1}}}}'.encode(), 200),
    "comments": (f"{{{_HI} /* x */}}".encode(), 400),
    "two documents": (f"{{{_HI}}}{{{_HI}}}".encode(), 400),
    "an event stream": (b"data: {}\n\n", 400),
}


@pytest.mark.parametrize("name", _BODIES)
async def test_a_body_is_read_in_one_way_or_not_at_all(target: Target, name: str) -> None:
    body, status = _BODIES[name]
    answer = await target.exchange(target.chat(body))
    assert answer.status == status
    assert answer.seconds < 2.0
    assert len(answer.raw) < 20_000, "no answer is larger than its request deserves"
    if status != 200:
        answer.problem()


_BOMB = gzip.compress(b"[" * 100_000_000, compresslevel=9)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x", "GZIP"])
async def test_nothing_is_ever_inflated(stack: Stack, target: Target, coding: str) -> None:
    """A hundred megabytes in a hundred kilobytes; and a body that would be fine if it were inflated."""
    memory = resident_mib(stack)
    header = f"Content-Encoding: {coding}\r\n".encode()
    for body in (_BOMB, gzip.compress(f"{{{_HI}}}".encode()), zlib.compress(b"{}"), f"{{{_HI}}}".encode()):
        answer = await target.exchange(target.chat(body, header))
        assert (answer.status, answer.problem()["code"]) == (415, "unsupported_media_type")
    assert resident_mib(stack) < memory + 20


_FILL = b"x" * 65536


@pytest.mark.parametrize("length", [b"Content-Length: 1048577\r\n", b"Content-Length: 9223372036854775807\r\n", None])
@pytest.mark.parametrize(
    ("method", "path"), [(b"POST", b"chat"), (b"POST", b"conversations"), (b"POST", b"/dev/token")]
)
async def test_more_than_a_mebibyte_is_refused_before_it_is_read(
    target: Target, method: bytes, path: bytes, length: bytes | None
) -> None:
    """By what is announced; without an announcement, as it comes."""
    chunks = [b"10000\r\n" + _FILL + b"\r\n"] * 40 + [b"0\r\n\r\n"]
    headers = JSON + (length or b"Transfer-Encoding: chunked\r\n")
    pieces = [] if length else chunks
    answer = await target.exchange(target.request(method, path, headers=headers), *pieces)
    assert (answer.status, answer.problem()["code"]) == (413, "payload_too_large")


async def test_a_mebibyte_in_tiny_chunks_is_read(stack: Stack, target: Target) -> None:
    memory = resident_mib(stack)
    spaces = b"1\r\n \r\n" * 50_000
    end = b"%x\r\n{%b}\r\n0\r\n\r\n" % (len(_HI) + 2, _HI.encode())
    answer = await target.exchange(
        target.request(b"POST", b"chat", headers=JSON + b"Transfer-Encoding: chunked\r\n"), spaces, end
    )
    assert answer.status == 200
    assert resident_mib(stack) < memory + 20


async def test_bodies_that_break_off_are_nothing(target: Target) -> None:
    for sent in (
        target.request(b"POST", b"chat", headers=JSON + b"Content-Length: 100\r\n", body=b'{"message": "'),
        target.request(b"POST", b"chat", headers=JSON + b"Transfer-Encoding: chunked\r\n", body=b"5\r\n{"),
        target.request(b"POST", b"chat", headers=JSON + b"Content-Length: 100\r\nExpect: 100-continue\r\n"),
    ):
        await target.exchange(sent, wait=0.2)  # and hangs up


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": 1.5416828292877024e253, "b": [-1e308, 2**63, 2**64 - 1, -(2**63), 5e-324, -0.0]},
        {"\x00": "\x00", "\x1a": "\x1a0", "é\u2028": "\ufffe"},
        {"a" * 1000: "b" * 10_000},
        json.loads('{"a":' * 15 + "1" + "}" * 15),
    ],
    ids=["numbers", "characters", "long", "deep"],
)
async def test_metadata_that_was_accepted_can_be_read_for_ever(client: Client, metadata: dict[str, Any]) -> None:
    """A number beyond 64 bits used to make its conversation, and every list with it, a 503."""
    made = await client.request("POST", "conversations", json={"title": "t", "metadata": metadata})
    assert (made.status_code, made.json()["metadata"]) == (201, metadata)
    path = f"conversations/{made.json()['id']}"
    changed = await client.request("PATCH", path, json={"metadata": {**metadata, "more": 1}})
    assert changed.status_code == 200
    assert (await client.get(path))["metadata"] == {**metadata, "more": 1}
    assert (await client.get("conversations"))["items"][0]["metadata"] == {**metadata, "more": 1}


async def test_what_is_stored_is_what_was_checked(client: Client, target: Target) -> None:
    """The store gets no byte that the gateway did not understand: no second field, no MiB that counts as nothing."""
    mine = Target(target.port, client.user, client.token)
    hidden = b'{"metadata": {"a": "%b"}, "title": "x", "metadata": {"b": %b}}' % (b"y" * 100_000, b" " * 100_000 + b"1")
    head = JSON + b"Content-Length: %d\r\n" % len(hidden)
    answer = await mine.exchange(mine.request(b"POST", b"conversations", headers=head, body=hidden))
    assert answer.status == 201
    assert json.loads(answer.body)["metadata"] == {"b": 1}


async def test_a_reply_without_an_end_is_cut_off_and_the_conversation_goes_on(client: Client) -> None:
    """Larger than a record of the log, it could never have been written there: its turn would have run for ever."""
    answer = await client.post("{{tokens=120000}}")
    assert (answer.status_code, answer.json()["code"]) == (502, "model_error")
    assert "grew beyond" in answer.json()["detail"]
    turn = await client.ended(answer.json()["turn_id"])
    assert turn["status"] == "failed"
    after = await client.chat("{{tokens=1}} hi", conversation_id=turn["conversation_id"])
    assert after["status"] == "completed"
