"""Control characters, line ends and other people's syntax in everything that names something."""

from __future__ import annotations

import json
from urllib.parse import quote
from uuid import uuid4

import pytest
from tests.e2e.client import NewClient
from tests.hostile.conftest import lines_since
from tests.hostile.wire import Target

from logue_devstack.stack import Stack

_EVIL = [
    "\r\nX-Evil: 1",
    "\nSet-Cookie: evil=1",
    "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "\x00",
    "\x1b[31mred",
    "\x7f\x80\x85",
    "\u2028\u2029",
    "\u202e",
    "\ufffe",
    '","level":"error","event":"forged"}',
    "' OR '1'='1' --",
    "${jndi:ldap://127.0.0.1/x}",
    "{{7*7}}",
    "../../../etc/passwd",
    "..%2f..%2f",
    "%00",
    "<script>alert(1)</script>",
    "x" * 5000,
]
_PLACES = [
    "turns/{}",
    "turns/{}/events",
    "turns/{}/cancel",
    "conversations/{}",
    "conversations/{}/messages",
    "conversations?cursor={}",
    "conversations?limit={}",
    "conversations?{}=1",
    "conversations/00000000-0000-7000-8000-000000000000/messages?after_turn={}&leaf={}",
    "{}",
]


@pytest.mark.parametrize("evil", _EVIL, ids=lambda evil: repr(evil)[:20])
async def test_no_address_gets_into_headers_or_logs(stack: Stack, target: Target, evil: str) -> None:
    size = stack.log("gateway-0").stat().st_size
    for place in _PLACES:
        path = place.replace("{}", quote(evil, safe="", errors="surrogatepass"))
        for method in (b"GET", b"POST", b"DELETE"):
            answer = await target.exchange(target.request(method, path.encode(), headers=b"Content-Length: 0\r\n"))
            assert b"\nHTTP/1.1" not in answer.raw, path
            found = answer.problem()
            assert found["status"] in {404, 405, 415, 422}, path
            assert not {"x-evil", "set-cookie"} & answer.headers.keys()
    logged = lines_since(stack.log("gateway-0"), size)
    assert not [line for line in logged if line.get("event") == "forged"]


@pytest.mark.parametrize("evil", _EVIL, ids=lambda evil: repr(evil)[:20])
@pytest.mark.parametrize("header", ["Last-Event-ID", "Idempotency-Key", "Prefer", "Accept", "Content-Type"])
async def test_no_header_gets_into_headers_or_logs(target: Target, header: str, evil: str) -> None:
    """Also X-Correlation-ID, which is never taken from a client."""
    mine = b"X-Correlation-ID: " + uuid4().hex.encode() + b"\r\n"
    sent = mine + header.encode() + b": " + evil.encode("utf-8", "surrogatepass") + b"\r\n"
    body = b'{"message": "{{tokens=1}} hi"}'
    lines = b"" if header == "Content-Type" else b"Content-Type: application/json\r\n"
    for request in (
        target.request(b"GET", f"turns/{uuid4()}/events".encode(), headers=sent),
        target.request(b"POST", b"chat", headers=lines + sent + b"Content-Length: %d\r\n" % len(body), body=body),
    ):
        answer = await target.exchange(request)
        assert answer.status in {200, 400, 404, 415, 422}
        assert not {"x-evil", "set-cookie"} & answer.headers.keys()
        assert answer.headers["x-correlation-id"].encode() not in mine
        if answer.status != 200:
            assert answer.problem()["detail"]


_USERS = [
    "é€",
    "😀",
    "a b",
    "a?b#c",
    "a%2Fb",
    "a;b=1",
    "'\"<>",
    "\\",
    "{x}",
    "a:b@c",
    "%00",
    "ü" * 255,
    "user@example.org",
]


@pytest.mark.parametrize("user", _USERS)
async def test_users_may_be_called_anything_that_can_be_printed(new_client: NewClient, user: str) -> None:
    """Location leads back to the turn. Outside of Latin-1 it used to be a 500, after the turn was accepted."""
    client = new_client(user)
    path = f"/api/{quote(user, safe='')}"
    headers = {"Prefer": "respond-async", "Idempotency-Key": uuid4().hex}
    asked = await client.request("POST", f"{path}/chat", json={"message": "{{tokens=1}} hi"}, headers=headers)
    assert asked.status_code == 202, asked.text
    assert asked.headers["location"] == f"{path}/turns/{asked.json()['turn_id']}"
    found = await client.request("GET", asked.headers["location"])
    assert (found.status_code, found.json()["turn_id"]) == (200, asked.json()["turn_id"])


@pytest.mark.parametrize("user", ["a/b", "a//b", "../ann", "/", "ann/../bob"])
async def test_a_user_with_a_slash_has_no_path(new_client: NewClient, user: str) -> None:
    """Encoded or not: no proxy and no router can read such a path in two ways."""
    client = new_client(user)
    for path in (quote(user, safe=""), quote(user)):
        answer = await client.request("GET", f"/api/{path}/conversations")
        assert answer.status_code in {403, 404}, answer.text


@pytest.mark.parametrize("user", ["a\nb", "a\x00b", "\u202eann", ".", "..", "", "x" * 256, " \u2028"])
async def test_tokens_of_users_that_cannot_be_are_refused(stack: Stack, target: Target, user: str) -> None:
    evil = Target(target.port, "ann", stack.token(user))
    for path in (b"/api/ann/conversations", b"/api/%b/conversations" % quote(user, safe="").encode()):
        answer = await evil.exchange(evil.request(b"GET", path))
        assert (answer.status, answer.problem()["code"]) == (401, "unauthorized")


async def test_an_answer_says_nothing_to_caches_and_sniffers(target: Target) -> None:
    for path in (b"conversations", b"nowhere", b"turns/x"):
        answer = await target.exchange(target.request(b"GET", path))
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers


@pytest.mark.parametrize("host", ["evil.example", "[", "a b", "127.0.0.1:99999999", "x/../..//y?z#", "\xff"])
async def test_the_host_header_is_never_repeated(target: Target, host: str) -> None:
    body = b'{"message": "{{tokens=1}} hi"}'
    sent = target.chat(body, b"Prefer: respond-async\r\n").replace(b"Host: logue", b"Host: " + host.encode("latin-1"))
    answer = await target.exchange(sent)
    assert answer.status == 202
    assert host.encode("latin-1") not in answer.raw
    assert answer.headers["location"].startswith("/api/")
    assert json.loads(answer.body)["status"] == "queued"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1", "*"])
async def test_no_origin_may_read_answers_unless_it_is_configured(target: Target, origin: str) -> None:
    asked = b"Origin: %b\r\nAccess-Control-Request-Method: POST\r\n" % origin.encode()
    for method, path in ((b"OPTIONS", b"chat"), (b"GET", b"conversations")):
        answer = await target.exchange(target.request(method, path, headers=asked))
        assert "access-control-allow-origin" not in answer.headers
        assert "access-control-allow-credentials" not in answer.headers
