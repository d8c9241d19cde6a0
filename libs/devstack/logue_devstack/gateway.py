"""The gateway with one route more, `POST /dev/token`. Only the devstack runs this, so nothing else can offer it."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from logue_devstack.credentials import sign_token
from logue_gateway.main import run
from logue_gateway.settings import GatewaySettings

_MAX_USER_ID_CHARACTERS = 255


def dev_token_route(jwt_secret: str) -> Route:
    """`{"user_id": "user-1"}` → `{"token": "…"}`, valid for 24 hours."""

    async def dev_token(request: Request) -> JSONResponse:
        try:
            user_id = orjson.loads(await request.body())["user_id"]
        except (ValueError, KeyError, TypeError):
            user_id = None
        if not isinstance(user_id, str) or not 0 < len(user_id) <= _MAX_USER_ID_CHARACTERS:
            problem = {
                "type": "about:blank",
                "title": "Unprocessable Content",
                "status": 422,
                "detail": 'Send {"user_id": "…"} with an id of 1 to 255 characters.',
                "code": "invalid_request",
                "retryable": False,
            }
            return JSONResponse(problem, 422, media_type="application/problem+json")
        return JSONResponse({"token": sign_token(jwt_secret, user_id)})

    return Route("/dev/token", dev_token, methods=["POST"])


def main() -> None:
    settings = GatewaySettings.load()
    routes = [dev_token_route(settings.jwt_secret.get_secret_value())] if settings.jwt_secret else []
    run(settings, extra_routes=routes)


if __name__ == "__main__":
    main()
