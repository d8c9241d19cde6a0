"""Callers are services: they show the shared internal token. Pure ASGI, before anything else is looked at."""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from logue_common.errors import ProblemError
from logue_conversation.api.problems import problem_response

_PREFIX = "/internal"


class InternalToken:
    """Answers 401 to every request under /internal without the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = b"Bearer " + token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["path"].startswith(_PREFIX) and not self._is_allowed(scope):
            error = ProblemError(
                "unauthorized", "Show the internal token as a bearer token.", headers={"WWW-Authenticate": "Bearer"}
            )
            await problem_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(shown) == 1 and hmac.compare_digest(shown[0], self._expected)
