"""Tokens and key sets: nothing that was not really signed is a token, and no other error than TokenError."""

from __future__ import annotations

import base64
import time
from typing import Any

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.hostile.evil import BYTES, DOCUMENTS, SECRET, changed, refilled

from logue_gateway.auth import TokenRules, TokenVerifier, secret_finder
from logue_gateway.errors import TokenError
from logue_gateway.jwks import parse_key_set

RULES = TokenRules(frozenset({"HS256"}), None, None, 10)
_SEGMENTS = BYTES.map(lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=").decode())
_CLAIMS = {"sub": "ann", "iat": int(time.time()), "exp": int(time.time()) + 10**6}
_TOKEN = jwt.encode(_CLAIMS, SECRET, "HS256")


@given(st.text(max_size=100) | st.lists(_SEGMENTS, max_size=4).map(".".join))
def test_nothing_that_was_not_signed_is_a_token(token: str) -> None:
    with pytest.raises(TokenError):
        TokenVerifier(RULES, secret_finder(SECRET)).verify(token)


@given(changed([_TOKEN.encode()]))
def test_a_changed_token_is_no_token(raw: bytes) -> None:
    token = raw.decode("latin-1")
    try:
        TokenVerifier(RULES, secret_finder(SECRET)).verify(token)
    except TokenError:
        return
    assert _signed_part(token) == _signed_part(_TOKEN)


def _signed_part(token: str) -> tuple[str, bytes]:
    """Base64 has several spellings of the same signature; what it signs has one."""
    signed, _, signature = token.rpartition(".")
    return signed, base64.urlsafe_b64decode(signature + "==")


@given(refilled([{"alg": "HS256", "typ": "JWT"}]), refilled([_CLAIMS]) | DOCUMENTS)
@example(b'{"alg":"HS256"}', b'{"sub":"ann","iat":1,"exp":1e999}')
@example(b'{"alg":"HS256"}', b'{"sub":"ann","iat":NaN,"exp":Infinity}')
@example(b'{"alg":"HS256"}', b'{"sub":"ann","iat":1,"exp":' + b"9" * 5000 + b"}")
@example(b'{"alg":"HS256"}', b"[" * 5000)
@example(b"[" * 5000, b"{}")
def test_what_the_provider_signed_by_mistake_is_refused_or_whole(header: bytes, payload: bytes) -> None:
    signed = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (header, payload))
    signature = jwt.get_algorithm_by_name("HS256").sign(signed.encode(), SECRET.encode())
    token = f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    try:
        principal = TokenVerifier(RULES, secret_finder(SECRET)).verify(token)
    except TokenError:
        return
    assert principal.user_id.isprintable()
    assert principal.user_id not in {"", ".", ".."}
    assert principal.expires_at > time.time() - 20


_JWK: dict[str, Any] = {
    "kty": "RSA",
    "kid": "k",
    "use": "sig",
    "alg": "RS256",
    "key_ops": ["verify"],
    "n": "AQ",
    "e": "AQAB",
}
_KEYS = [
    _JWK,
    {**_JWK, "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    {**_JWK, "kty": "OKP", "crv": "Ed25519", "x": "A"},
]


@given(BYTES | refilled(_KEYS).map(lambda key: b'{"keys":[' + key + b"]}"))
@example(b'{"keys":[{"kty":"RSA","key_ops":5}]}')
@example(b"[" * 100_000)
def test_a_key_set_is_usable_or_a_value_error(body: bytes) -> None:
    try:
        keys = parse_key_set(body)
    except ValueError:
        return
    assert len(keys) == 0, "none of these is a key that can verify anything"
