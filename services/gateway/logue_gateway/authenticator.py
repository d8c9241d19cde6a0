"""Reads the token of a request and has it verified; waits for a fresh key set where that may help."""

from __future__ import annotations

from starlette.datastructures import Headers

from logue_gateway import metrics
from logue_gateway.auth import KeyFinder, Principal, TokenVerifier, secret_finder, token_rules
from logue_gateway.errors import AuthenticationError, TokenError, UnknownKeyError, unavailable
from logue_gateway.jwks import JwksClient
from logue_gateway.settings import GatewaySettings

_SCHEME = "bearer "


class Authenticator:
    """Tells who sent a request."""

    def __init__(self, settings: GatewaySettings) -> None:
        rules = token_rules(settings)
        self.jwks: JwksClient | None = None
        if settings.jwks_url is not None:
            self.jwks = JwksClient(settings.jwks_url)
            find_key: KeyFinder = self.jwks.find
        else:
            assert settings.jwt_secret is not None  # noqa: S101 (token_rules checked it)
            find_key = secret_finder(settings.jwt_secret.get_secret_value())
        self._verifier = TokenVerifier(rules, find_key)
        if self.jwks is not None:
            self.jwks.on_change = self._verifier.forget_all

    def open(self) -> None:
        """Begin to fetch keys, if there are any to fetch."""
        if self.jwks is not None:
            self.jwks.open()

    async def close(self) -> None:
        """Stop fetching keys."""
        if self.jwks is not None:
            await self.jwks.close()

    async def check(self) -> str | None:
        """For /readyz: are there keys?"""
        return "no key set yet" if self.jwks is not None and not self.jwks.is_loaded else None

    async def authenticate(self, headers: Headers) -> Principal:
        """The user of the request. Raises AuthenticationError (401), or ProblemError (503) while no keys are known."""
        token = _bearer(headers)
        try:
            return await self._verify(token)
        except TokenError as error:
            metrics.REFUSED_TOKENS.labels(str(error)).inc()
            raise AuthenticationError("The token is not valid, or no longer. Get a new one.", invalid=True) from error

    async def _verify(self, token: str) -> Principal:
        try:
            return self._verifier.verify(token)
        except UnknownKeyError:
            if self.jwks is None:
                raise
            await self.jwks.refresh_for_unknown()
            if not self.jwks.is_loaded:
                raise unavailable("Tokens cannot be verified right now. Try again in a moment.") from None
            return self._verifier.verify(token)


def _bearer(headers: Headers) -> str:
    values = headers.getlist("authorization")
    if len(values) != 1 or values[0][: len(_SCHEME)].lower() != _SCHEME:
        metrics.REFUSED_TOKENS.labels("missing").inc()
        raise AuthenticationError("Send `Authorization: Bearer <token>`.", invalid=False)
    return values[0][len(_SCHEME) :].strip()
