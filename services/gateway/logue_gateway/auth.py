"""Who is asking? Verification of bearer tokens (RFC 7519, 8725): pure, no I/O; keys come from outside.

The algorithm comes from the configuration and from the key, never from the token.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

from logue_common.errors import StartupError
from logue_gateway.errors import TokenError
from logue_gateway.settings import GatewaySettings

#: Larger tokens are refused unread; real ones have some hundred bytes.
MAX_TOKEN_BYTES = 8 * 1024
#: RFC 7518, 3.2: a key of the hash's size at least.
MIN_SECRET_BYTES = 32
_MAX_USER_ID = 255
_MAX_CACHED = 20_000
#: Path segments that clients and proxies resolve: no user can be called so.
_NO_USERS = frozenset({".", ".."})
SECRET_ALGORITHMS = frozenset({"HS256"})
KEY_SET_ALGORITHMS = frozenset({"RS256", "ES256", "EdDSA"})

#: Finds the key for (kid, alg); raises UnknownKeyError.
KeyFinder = Callable[[str | None, str], Any]


@dataclass(frozen=True, slots=True)
class Principal:
    """The user that a verified token speaks for, until `expires_at` (epoch seconds)."""

    user_id: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must fulfil."""

    algorithms: frozenset[str]
    issuer: str | None
    audience: str | None
    leeway_seconds: int


def token_rules(settings: GatewaySettings) -> TokenRules:
    """The rules in `settings`. Raises StartupError unless exactly one family of keys is configured."""
    if (settings.jwt_secret is None) == (settings.jwks_url is None):
        raise StartupError("Set either LOGUE_JWT_SECRET or LOGUE_JWKS_URL: one family of keys per deployment.")
    allowed = SECRET_ALGORITHMS if settings.jwt_secret is not None else KEY_SET_ALGORITHMS
    algorithms = frozenset(settings.jwt_algorithms) or allowed
    if not algorithms <= allowed:
        raise StartupError(
            f"LOGUE_JWT_ALGORITHMS names {', '.join(sorted(algorithms - allowed))}; "
            f"with this kind of key only {', '.join(sorted(allowed))} can be used."
        )
    secret = settings.jwt_secret
    if secret is not None and len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
        raise StartupError(f"LOGUE_JWT_SECRET must have at least {MIN_SECRET_BYTES} bytes.")
    return TokenRules(algorithms, settings.jwt_issuer, settings.jwt_audience, settings.jwt_leeway_seconds)


def secret_finder(secret: str) -> KeyFinder:
    """The one shared secret, whatever `kid` says."""
    return lambda _kid, _alg: secret


class TokenVerifier:
    """Verifies tokens, and remembers what it verified by the token's hash until it expires."""

    def __init__(self, rules: TokenRules, find_key: KeyFinder, *, clock: Callable[[], float] = time.time) -> None:
        self._rules = rules
        self._find_key = find_key
        self._clock = clock
        self._verified: OrderedDict[bytes, Principal] = OrderedDict()

    def verify(self, token: str) -> Principal:
        """The token's user. Raises TokenError; UnknownKeyError when another key set might help."""
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenError("oversized")
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known = self._verified.get(digest)
        if known is not None:
            if self._clock() < known.expires_at + self._rules.leeway_seconds:
                return known
            del self._verified[digest]
        principal = self._verify(token)
        self._verified[digest] = principal
        if len(self._verified) > _MAX_CACHED:
            self._verified.popitem(last=False)
        return principal

    def forget_all(self) -> None:
        """The keys changed: every token must prove itself again."""
        self._verified.clear()

    def _verify(self, token: str) -> Principal:
        rules = self._rules
        try:
            header = jwt.get_unverified_header(token)
            alg, kid = _checked_header(header, rules)
            claims = jwt.decode(
                token,
                self._find_key(kid, alg),
                algorithms=[alg],
                issuer=rules.issuer,
                audience=rules.audience,
                leeway=rules.leeway_seconds,
                options={
                    "require": ["sub", "exp", "iat"],
                    "verify_aud": rules.audience is not None,
                    "verify_iss": rules.issuer is not None,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise TokenError(type(error).__name__) from error
        return _principal(claims)


def _checked_header(header: dict[str, Any], rules: TokenRules) -> tuple[str, str | None]:
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str) or alg not in rules.algorithms:
        raise TokenError("algorithm")
    if kid is not None and not isinstance(kid, str):
        raise TokenError("kid")
    return alg, kid


def _principal(claims: dict[str, Any]) -> Principal:
    user_id, expires_at = claims["sub"], claims["exp"]
    if not isinstance(user_id, str) or not 0 < len(user_id) <= _MAX_USER_ID or user_id in _NO_USERS:
        raise TokenError("sub")
    if not user_id.isprintable():  # control characters, lone surrogates
        raise TokenError("sub")
    for name in ("exp", "iat"):
        if isinstance(claims[name], bool) or not isinstance(claims[name], int | float):
            raise TokenError(name)
    return Principal(user_id, float(min(expires_at, 2**53)))
