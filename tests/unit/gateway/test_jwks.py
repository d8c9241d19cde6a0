"""The key set's client: fetched in the background, bounded, with a cooldown for unknown keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
from aiohttp import web
from tests.unit.gateway.test_auth import EC, ED, jwk

from logue_gateway.errors import UnknownKeyError
from logue_gateway.jwks import MAX_KEY_SET_BYTES, JwksClient


class Provider:
    """An identity provider."""

    def __init__(self) -> None:
        self.keys = [jwk(EC, "ES256", "one")]
        self.fetches = 0
        self.body: bytes | None = None
        self.url = ""

    async def answer(self, _: web.Request) -> web.Response:
        self.fetches += 1
        return web.Response(body=self.body or orjson.dumps({"keys": self.keys}))


async def _moved(_: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "/jwks"})


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    app = web.Application()
    app.router.add_get("/jwks", provider.answer)
    app.router.add_get("/moved", _moved)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield provider
    await runner.cleanup()


async def _loaded(client: JwksClient) -> None:
    async with asyncio.timeout(5):
        while not client.is_loaded:
            await asyncio.sleep(0.01)


async def test_keys_are_there_soon_and_a_new_one_after_a_refresh(provider: Provider) -> None:
    client = JwksClient(provider.url + "/jwks", cooldown_seconds=0.2)
    changes: list[int] = []
    client.on_change = lambda: changes.append(1)
    client.open()
    try:
        await _loaded(client)
        client.find("one", "ES256")
        provider.keys.append(jwk(ED, "EdDSA", "two"))
        with pytest.raises(UnknownKeyError):
            client.find("two", "EdDSA")
        assert await client.refresh_for_unknown()
        client.find("two", "EdDSA")
        assert len(changes) == 2
        # Whoever invents kids causes no more than one fetch per cooldown.
        fetches = provider.fetches
        assert not any(await asyncio.gather(*(client.refresh_for_unknown() for _ in range(50))))
        assert provider.fetches == fetches
    finally:
        await client.close()


@pytest.mark.parametrize("path", ["/moved", "/nowhere"])
async def test_redirects_and_errors_give_no_keys(provider: Provider, path: str) -> None:
    client = JwksClient(provider.url + path)
    client.open()
    assert not await client.refresh_for_unknown()
    assert not client.is_loaded
    await client.close()


@pytest.mark.parametrize("body", [b"x" * (MAX_KEY_SET_BYTES + 1), b"[]"])
async def test_a_bad_answer_keeps_the_keys_of_before(provider: Provider, body: bytes) -> None:
    client = JwksClient(provider.url + "/jwks")
    client.open()
    await _loaded(client)
    provider.body = body
    assert not await client.refresh_for_unknown()
    client.find("one", "ES256")
    await client.close()
