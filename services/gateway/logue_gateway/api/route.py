"""Routes whose endpoints read their requests themselves: FastAPI describes them, and has nothing else to do."""

from __future__ import annotations

from typing import Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive, Scope, Send


class PlainRoute(APIRoute):
    """Calls its endpoint with the request and the path's parameters, as the decoded text that they are.

    FastAPI's own way looks for a body, dependencies and a response model, and keeps two exit stacks and four coroutines
    for as long as the response lasts, which for a stream is long. All of FastAPI was a tenth of the gateway's CPU.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options["operation_id"] = options.get("operation_id") or options["endpoint"].__name__  # as links name it
        super().__init__(*arguments, **options)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Part of Starlette's protocol."""
        if scope["method"] not in (self.methods or ()):
            raise HTTPException(405)
        response = await self.endpoint(Request(scope, receive, send), **scope["path_params"])
        await response(scope, receive, send)
