"""The attack set on tokens (RFC 8725), against a shared secret and against a key set."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pydantic import SecretStr

from logue_common.errors import StartupError
from logue_gateway.auth import MAX_TOKEN_BYTES, TokenRules, TokenVerifier, secret_finder, token_rules
from logue_gateway.errors import TokenError, UnknownKeyError
from logue_gateway.jwks import parse_key_set
from logue_gateway.settings import GatewaySettings

SECRET = "a-secret-of-thirty-two-bytes-or-more"
RSA, OTHER_RSA = (rsa.generate_private_key(65537, 2048) for _ in range(2))
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
ALL = frozenset({"RS256", "ES256", "EdDSA"})


def jwk(key: Any, alg: str, kid: str | None, /, **more: Any) -> dict[str, Any]:
    algorithm = jwt.get_algorithm_by_name(alg)
    entry = json.loads(algorithm.to_jwk(key.public_key()))  # type: ignore[attr-defined]
    return {**entry, **({"kid": kid} if kid else {}), **more}


KEY_SET = parse_key_set(
    orjson.dumps(
        {
            "keys": [
                jwk(RSA, "RS256", "rsa", alg="RS256", use="sig"),
                jwk(OTHER_RSA, "RS256", "other-rsa"),
                jwk(EC, "ES256", "ec"),
                jwk(ED, "EdDSA", "ed"),
                {"kty": "oct", "kid": "oct", "k": base64.urlsafe_b64encode(SECRET.encode()).decode()},
                jwk(RSA, "RS256", "for-encryption", use="enc"),
                jwk(EC, "ES256", "mislabelled", alg="RS256"),
                "not a key",
                {"kty": "RSA"},
            ]
        }
    )
)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    found = {"sub": "ann", "iat": now, "exp": now + 60, "iss": "https://issuer", "aud": "logue", **changes}
    return {name: value for name, value in found.items() if value is not None}


def rules(*algorithms: str, leeway: int = 10) -> TokenRules:
    return TokenRules(frozenset(algorithms), "https://issuer", "logue", leeway)


@pytest.fixture
def shared() -> TokenVerifier:
    return TokenVerifier(rules("HS256"), secret_finder(SECRET))


@pytest.fixture
def key_set() -> TokenVerifier:
    return TokenVerifier(rules(*ALL), KEY_SET.find)


def hs256(payload: dict[str, Any], key: str = SECRET, **headers: Any) -> str:
    return jwt.encode(payload, key, "HS256", headers=headers)


def raw(header: dict[str, Any], payload: dict[str, Any], signature: bytes = b"") -> str:
    parts = [orjson.dumps(header), orjson.dumps(payload), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def test_a_good_token_names_its_user_until_it_expires(shared: TokenVerifier) -> None:
    payload = claims()
    principal = shared.verify(hs256(payload))
    assert (principal.user_id, principal.expires_at) == ("ann", payload["exp"])


@pytest.mark.parametrize(("key", "alg", "kid"), [(RSA, "RS256", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")])
def test_every_kind_of_public_key_works(key_set: TokenVerifier, key: Any, alg: str, kid: str) -> None:
    assert key_set.verify(jwt.encode(claims(), key, alg, headers={"kid": kid})).user_id == "ann"


# Made when tests are collected, which may be many minutes before they run: times are hours away.
@pytest.mark.parametrize(
    "payload",
    [
        claims(sub=None),
        claims(exp=None),
        claims(iat=None),
        claims(iss=None),
        claims(aud=None),
        claims(iss="https://evil"),
        claims(aud="another"),
        claims(exp=int(time.time()) - 11),
        claims(iat=int(time.time()) + 7200, exp=int(time.time()) + 9000),
        claims(exp=str(int(time.time()) + 60)),
        claims(exp=True),
        claims(iat="now"),
        claims(nbf=int(time.time()) + 7200, exp=int(time.time()) + 9000),
        claims(sub=""),
        claims(sub=".."),
        claims(sub="x" * 256),
        claims(sub="a\nb"),
        claims(sub="\ud800"),
    ],
    ids=str,
)
def test_claims_that_prove_nothing(shared: TokenVerifier, payload: dict[str, Any]) -> None:
    with pytest.raises(TokenError):
        shared.verify(hs256(payload))


def test_a_sub_that_is_no_text(shared: TokenVerifier) -> None:
    header = {"alg": "HS256", "typ": "JWT"}
    signed = raw(header, claims(sub=7)).rpartition(".")[0]
    signature = jwt.get_algorithm_by_name("HS256").sign(signed.encode(), SECRET.encode())
    with pytest.raises(TokenError):
        shared.verify(raw(header, claims(sub=7), signature))


@pytest.mark.parametrize(
    "token",
    ["", "x", "a.b", "a.b.c", "....", "é.é.é", "Bearer x", "\udcff.x.y", "e30.e30.e30", "A" * (MAX_TOKEN_BYTES + 1)],
)
def test_what_is_no_token(shared: TokenVerifier, key_set: TokenVerifier, token: str) -> None:
    for verifier in (shared, key_set):
        with pytest.raises(TokenError):
            verifier.verify(token)


def test_an_oversized_token_is_refused_however_good(shared: TokenVerifier) -> None:
    with pytest.raises(TokenError):
        shared.verify(hs256(claims(padding="x" * MAX_TOKEN_BYTES)))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 0, ["HS256"], {"a": 1}])
def test_no_signature_is_no_proof(shared: TokenVerifier, key_set: TokenVerifier, alg: Any) -> None:
    for verifier in (shared, key_set):
        with pytest.raises(TokenError):
            verifier.verify(raw({"alg": alg, "typ": "JWT", "kid": "rsa"}, claims()))


def test_a_public_key_is_no_shared_secret(key_set: TokenVerifier) -> None:
    """HS/RS confusion: a token signed by HMAC with the public key's text."""
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    header = {"alg": "HS256", "typ": "JWT", "kid": "rsa"}
    signed = raw(header, claims()).rpartition(".")[0].encode()
    token = raw(header, claims(), hmac.new(pem, signed, hashlib.sha256).digest())
    with pytest.raises(TokenError):
        key_set.verify(token)


@pytest.mark.parametrize("alg", ["HS384", "HS512"])
def test_only_the_configured_algorithm(shared: TokenVerifier, alg: str) -> None:
    with pytest.raises(TokenError):
        shared.verify(jwt.encode(claims(), SECRET * 2, alg))


def test_each_key_works_with_its_own_algorithm_and_kid_only(key_set: TokenVerifier) -> None:
    for key, alg, kid in (
        (RSA, "RS256", "other-rsa"),
        (OTHER_RSA, "RS256", "rsa"),
        (RSA, "RS256", "ec"),
        (EC, "ES256", "rsa"),
        (EC, "ES256", "ed"),
        (RSA, "RS256", "for-encryption"),
        (EC, "ES256", "mislabelled"),
        (RSA, "RS512", "rsa"),
        (RSA, "PS256", "rsa"),
    ):
        with pytest.raises(TokenError):
            key_set.verify(jwt.encode(claims(), key, alg, headers={"kid": kid}))
    with pytest.raises(TokenError):
        key_set.verify(hs256(claims(), kid="oct"))


@pytest.mark.parametrize("kid", ["", "../../etc/passwd", "' OR 1=1 --", "http://evil/jwks", "rsa\x00", "x" * 5000])
def test_a_kid_is_a_name_and_nothing_else(key_set: TokenVerifier, kid: str) -> None:
    with pytest.raises(UnknownKeyError):
        key_set.verify(jwt.encode(claims(), RSA, "RS256", headers={"kid": kid}))


@pytest.mark.parametrize("kid", [7, None, ["rsa"], {"rsa": 1}, True])
def test_a_kid_that_is_no_text(key_set: TokenVerifier, kid: Any) -> None:
    with pytest.raises(TokenError):
        key_set.verify(raw({"alg": "RS256", "kid": kid}, claims(), b"x" * 256))


@pytest.mark.parametrize(
    "extra",
    [
        {"jwk": jwk(OTHER_RSA, "RS256", "mine")},
        {"jku": "http://evil/jwks"},
        {"x5u": "http://evil/cert"},
        {"crit": ["exp"]},
        {"b64": False, "crit": ["b64"]},
    ],
    ids=str,
)
def test_keys_that_a_token_brings_are_not_used(key_set: TokenVerifier, extra: dict[str, Any]) -> None:
    header = {"alg": "RS256", "typ": "JWT", "kid": "rsa", **extra}
    signed = raw(header, claims()).rpartition(".")[0].encode()
    signature = jwt.get_algorithm_by_name("RS256").sign(signed, OTHER_RSA)
    with pytest.raises(TokenError):
        key_set.verify(raw(header, claims(), signature))


def test_a_token_without_kid_means_the_only_key_of_its_algorithm(key_set: TokenVerifier) -> None:
    assert key_set.verify(jwt.encode(claims(), EC, "ES256")).user_id == "ann"
    with pytest.raises(UnknownKeyError):  # there are two RSA keys
        key_set.verify(jwt.encode(claims(), RSA, "RS256"))


def test_a_verified_token_is_remembered_until_it_expires() -> None:
    now = time.time()
    asked: list[str | None] = []

    def find(kid: str | None, _: str) -> str:
        asked.append(kid)
        return SECRET

    verifier = TokenVerifier(rules("HS256"), find, clock=lambda: now)
    token = hs256(claims())
    verifier.verify(token)
    verifier.verify(token)
    assert len(asked) == 1
    now += 71
    verifier.verify(token)  # by its own clock the verifier looks again; PyJWT's clock still accepts it
    assert len(asked) == 2
    verifier.forget_all()
    verifier.verify(token)
    assert len(asked) == 3


def test_private_and_small_keys_are_left_out() -> None:
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505 (that is the point)
    private = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(RSA))  # type: ignore[attr-defined]
    keys = {"keys": [jwk(small, "RS256", "small"), {**private, "kid": "private"}]}
    assert len(parse_key_set(orjson.dumps(keys))) == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"keys": 1}', b"<html>"])
def test_what_is_no_key_set(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_key_set(body)


def settings_with(**values: Any) -> GatewaySettings:
    return GatewaySettings(
        kafka_bootstrap="127.0.0.1:1",
        conversation_url="http://127.0.0.1:1",
        internal_token=SecretStr("internal-token-for-tests"),
        event_id_secret=SecretStr(SECRET),
        **values,
    )


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"jwt_secret": SecretStr(SECRET), "jwks_url": "http://127.0.0.1:1"},
        {"jwt_secret": SecretStr("short")},
        {"jwt_secret": SecretStr(SECRET), "jwt_algorithms": "RS256"},
        {"jwks_url": "http://127.0.0.1:1", "jwt_algorithms": "HS256,RS256"},
        {"jwks_url": "http://127.0.0.1:1", "jwt_algorithms": "none"},
    ],
    ids=str,
)
def test_one_family_of_keys_per_deployment(values: dict[str, Any]) -> None:
    with pytest.raises(StartupError):
        token_rules(settings_with(**values))
