"""The key set (RFC 7517) of the identity provider: fetched in the background, bounded, never in a request's way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import aiohttp
import jwt
import orjson
import structlog

from logue_gateway import metrics
from logue_gateway.errors import UnknownKeyError
from logue_gateway.tasks import end

REFRESH_SECONDS = 300.0
#: After a failed fetch, and between two fetches that unknown key ids ask for.
COOLDOWN_SECONDS = 30.0
RETRY_SECONDS = 2.0
FETCH_TIMEOUT_SECONDS = 5.0
MAX_KEY_SET_BYTES = 256 * 1024
MAX_KEYS = 100
_MIN_RSA_BITS = 2048
_CURVES = {"P-256": "ES256", "Ed25519": "EdDSA"}

_log = structlog.get_logger(__name__)


class KeySet:
    """Public keys by (kid, alg). Each key works with its own algorithm only."""

    def __init__(self, keys: dict[tuple[str | None, str], Any]) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, kid: str | None, alg: str) -> Any:
        """The key. A token without kid may be meant for the only key of its algorithm. Raises UnknownKeyError."""
        if kid is None:
            candidates = [key for (_, key_alg), key in self._keys.items() if key_alg == alg]
            if len(candidates) == 1:
                return candidates[0]
        elif (kid, alg) in self._keys:
            return self._keys[kid, alg]
        raise UnknownKeyError("key")


def parse_key_set(body: bytes) -> KeySet:
    """The usable keys of a JWKS document; what is not a public signature key is left out. Raises ValueError."""
    document = orjson.loads(body)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("a JWKS has a list `keys`")  # noqa: TRY004 (the document is wrong, not a type of ours)
    keys: dict[tuple[str | None, str], Any] = {}
    for entry in entries[:MAX_KEYS]:
        if isinstance(entry, dict) and (alg := _algorithm(entry)) is not None:
            with contextlib.suppress(jwt.PyJWTError, ValueError, TypeError, KeyError):
                key = jwt.PyJWK(entry, algorithm=alg).key
                if alg != "RS256" or key.key_size >= _MIN_RSA_BITS:
                    kid = entry.get("kid")
                    keys[kid if isinstance(kid, str) else None, alg] = key
    return KeySet(keys)


def _algorithm(entry: dict[str, Any]) -> str | None:
    """The one algorithm that this key is for; None when it is not for verifying signatures, or is no public key."""
    if entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    operations = entry.get("key_ops")
    if operations is not None and (not isinstance(operations, list) or "verify" not in operations):
        return None
    by_type = "RS256" if entry.get("kty") == "RSA" else _CURVES.get(str(entry.get("crv")))
    return by_type if entry.get("alg", by_type) == by_type else None


class JwksClient:
    """Keeps the key set fresh. `find` never waits; `refresh_for_unknown` does, at most once per cooldown."""

    def __init__(self, url: str, *, cooldown_seconds: float = COOLDOWN_SECONDS) -> None:
        self._url = url
        #: Called when the keys are others than before.
        self.on_change: Callable[[], None] = lambda: None
        self._cooldown_seconds = cooldown_seconds
        self._keys = KeySet({})
        self._body: bytes | None = None
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._fetching: asyncio.Task[bool] | None = None
        self._fetched_for_unknown_at = float("-inf")

    @property
    def is_loaded(self) -> bool:
        """True once any key set was read."""
        return self._body is not None

    def find(self, kid: str | None, alg: str) -> Any:
        """The key for a token's header. Raises UnknownKeyError."""
        return self._keys.find(kid, alg)

    def open(self) -> None:
        """Begin to fetch in the background."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=FETCH_TIMEOUT_SECONDS))
        self._task = asyncio.create_task(self._keep_fresh(), name="jwks")

    async def close(self) -> None:
        """Stop fetching."""
        await end(self._task)
        if self._fetching is not None:
            self._fetching.cancel()
        if self._session is not None:
            await self._session.close()

    async def refresh_for_unknown(self) -> bool:
        """Fetch because a token names an unknown key; False when that was done a moment ago or failed."""
        now = asyncio.get_running_loop().time()
        if self._fetching is None:
            if now - self._fetched_for_unknown_at < self._cooldown_seconds:
                return False
            self._fetched_for_unknown_at = now
        return await asyncio.shield(self._fetch_once())

    async def _keep_fresh(self) -> None:
        while True:
            fetched = await asyncio.shield(self._fetch_once())
            await asyncio.sleep(REFRESH_SECONDS if fetched else RETRY_SECONDS)

    def _fetch_once(self) -> asyncio.Task[bool]:
        """One fetch at a time; whoever comes meanwhile shares it."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(lambda _: setattr(self, "_fetching", None))
        return self._fetching

    async def _fetch(self) -> bool:
        assert self._session is not None  # noqa: S101 (open() comes first)
        try:
            async with self._session.get(self._url, allow_redirects=False) as response:
                body = await _read_bounded(response)
            keys = parse_key_set(body)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            metrics.JWKS_FETCHES.labels("failed").inc()
            _log.warning("jwks_fetch_failed", cause=type(error).__name__)
            return False
        metrics.JWKS_FETCHES.labels("ok").inc()
        if body != self._body:
            self._body, self._keys = body, keys
            self.on_change()
        return True


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    response.raise_for_status()
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_KEY_SET_BYTES:
            break
    if response.status != 200 or len(body) > MAX_KEY_SET_BYTES:
        raise ValueError("the answer is not a key set of bounded size")
    return body
