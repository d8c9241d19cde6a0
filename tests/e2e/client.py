"""A proper client of the public API: it reconnects, resumes and retries as API.md tells it to, at any gateway."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
from tests.e2e.sse import Event, Shown, parse

GIVE_UP_SECONDS = 60.0
"""Longer than any disturbance lasts: a client that waits in vain for so long has found a defect."""
_RETRY_SECONDS = 0.25
#: What becomes of a connection when its gateway dies.
BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.TimeoutException)
#: Outcomes that are told with 503: the turn is over, and the same key gets the same answer.
_FINAL = {"context_unavailable"}


def new_key() -> str:
    return uuid4().hex


@dataclass
class Client:
    """One user. Every request goes to a gateway chosen at random, or to `gateway` (a base URL) at first."""

    http: httpx.AsyncClient
    gateways: Callable[[], Sequence[str]]
    user: str
    token: str
    choice: random.Random
    #: Connections that broke and answers that asked to come back.
    retries: int = 0
    calls: list[str] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def pick(self, other_than: str | None = None) -> str:
        return self.choice.choice([url for url in self.gateways() if url != other_than])

    async def request(
        self,
        method: str,
        path: str,
        *,
        gateway: str | None = None,
        headers: dict[str, str] | None = None,
        retry: bool = True,
        **request: Any,
    ) -> httpx.Response:
        """Any request below /api/{user}/; a path with a leading slash is taken as it is."""
        path = path if path.startswith("/") else f"/api/{self.user}/{path}"
        give_up = asyncio.get_running_loop().time() + GIVE_UP_SECONDS
        while True:
            base = gateway or self.pick()
            try:
                answer = await self.http.request(method, base + path, headers=self.headers | (headers or {}), **request)
            except BROKEN:
                if not retry or asyncio.get_running_loop().time() > give_up:
                    raise
            else:
                over = not retry or asyncio.get_running_loop().time() > give_up
                if answer.status_code != 503 or over or answer.json()["code"] in _FINAL:
                    return answer
                assert "retry-after" in answer.headers
            await self._pause()
            gateway = None

    async def get(self, path: str, **request: Any) -> Any:
        """The JSON of a GET that must work."""
        answer = await self.request("GET", path, **request)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(
        self,
        message: str,
        *,
        key: str | None = "",
        prefer: str | None = None,
        gateway: str | None = None,
        retry: bool = True,
        **body: Any,
    ) -> httpx.Response:
        """POST chat, answered as JSON. `key`: "" makes a new one; None sends none, so that nothing may be retried."""
        headers = _key_header(key) | ({"Prefer": prefer} if prefer else {})
        give_up = asyncio.get_running_loop().time() + GIVE_UP_SECONDS
        while True:
            answer = await self.request(
                "POST",
                "chat",
                json={"message": message, **body},
                headers=headers,
                gateway=gateway,
                retry=retry and key is not None,
            )
            waited_in_vain = answer.status_code == 202 and prefer is None
            if not waited_in_vain or asyncio.get_running_loop().time() > give_up:
                return answer

    async def chat(self, message: str, **options: Any) -> dict[str, Any]:
        """The body of a JSON answer that must be a reply."""
        answer = await self.post(message, **options)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        assert answer.headers["x-correlation-id"] == found["turn_id"]
        return found

    async def ask(self, message: str, **options: Any) -> dict[str, Any]:
        """202: the turn exists, its reply comes later."""
        answer = await self.post(message, prefer="respond-async", **options)
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        assert answer.headers["location"] == f"/api/{self.user}/turns/{found['turn_id']}"
        return found

    def stream(self, message: str, *, key: str | None = "", gateway: str | None = None, **body: Any) -> Stream:
        """POST chat as events."""
        return Stream(self, body={"message": message, "stream": True, **body}, key=_key_header(key), gateway=gateway)

    def resume(self, turn_id: str, shown: Shown | None = None, *, gateway: str | None = None) -> Stream:
        """GET events, after what `shown` has seen."""
        return Stream(self, turn_id=turn_id, shown=shown or Shown(), gateway=gateway)

    async def read(self, message: str, **options: Any) -> Shown:
        """The events of a whole turn."""
        return await self.stream(message, **options).to_end()

    async def messages(self, conversation_id: str, **query: Any) -> list[dict[str, Any]]:
        """All pages of a conversation's messages."""
        items: list[dict[str, Any]] = []
        while True:
            page = await self.get(f"conversations/{conversation_id}/messages", params={"limit": 100, **query})
            items += page["items"]
            if page["next_cursor"] is None:
                return items
            query["cursor"] = page["next_cursor"]

    async def ended(self, turn_id: str) -> dict[str, Any]:
        """The turn once it is over and stored."""
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while True:
                found: dict[str, Any] = await self.get(f"turns/{turn_id}")
                if found["status"] in {"completed", "failed", "cancelled"}:
                    return found
                await asyncio.sleep(0.1)

    async def cancel(self, turn_id: str) -> None:
        """Asks to stop a turn; a retry may find it over."""
        before = self.retries
        answer = await self.request("POST", f"turns/{turn_id}/cancel")
        assert answer.status_code == 202 or (answer.status_code == 409 and self.retries > before), answer.text

    async def _pause(self) -> None:
        self.retries += 1
        await asyncio.sleep(_RETRY_SECONDS)


class Stream:
    """One turn's events over as many connections as it takes, each at a random gateway but the first."""

    def __init__(
        self,
        client: Client,
        *,
        body: dict[str, Any] | None = None,
        key: dict[str, str] | None = None,
        turn_id: str | None = None,
        shown: Shown | None = None,
        gateway: str | None = None,
    ) -> None:
        self.shown = shown or Shown()
        self.turn_id = turn_id
        self.gateway = gateway
        self.connections = 0
        self._client = client
        self._body = body
        self._key = key or {}

    async def to_end(self) -> Shown:
        """Reads on until the terminal event."""
        async with aclosing(self.events()) as events:
            async for _ in events:
                pass
        return self.shown

    async def until(self, deltas: int) -> Shown:
        """Reads until so many deltas were shown, and disconnects."""
        async with aclosing(self.events()) as events:
            async for _ in events:
                if self.shown.names.count("message.delta") >= deltas:
                    break
        return self.shown

    async def events(self) -> AsyncIterator[Event]:
        """The events, shown already; ends after the terminal one."""
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while self.shown.ending is None:
                self.gateway = self.gateway if self.connections == 0 and self.gateway else self._client.pick()
                self.connections += 1
                try:
                    async with aclosing(self._connection()) as events:
                        async for event in events:
                            yield event
                except BROKEN:
                    pass
                if self.shown.ending is None:
                    await self._client._pause()

    async def _connection(self) -> AsyncIterator[Event]:
        client, headers = self._client, {**self._client.headers, "Accept": "text/event-stream"}
        if self._body is not None and not self.shown.last_id:
            assert self.connections == 1 or self._key, "without a key nothing may be sent again"
            opened = client.http.stream(
                "POST", f"{self.gateway}/api/{client.user}/chat", json=self._body, headers=headers | self._key
            )
        else:
            if self.shown.last_id:
                headers["Last-Event-ID"] = self.shown.last_id
            opened = client.http.stream(
                "GET", f"{self.gateway}/api/{client.user}/turns/{self.turn_id}/events", headers=headers
            )
        async with opened as answer:
            if answer.status_code == 503:
                return
            if answer.status_code != 200:
                await answer.aread()
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"].startswith("text/event-stream")
            self.turn_id = self.turn_id or answer.headers["x-correlation-id"]
            assert answer.headers["x-correlation-id"] == self.turn_id
            first = True
            async with aclosing(parse(answer.aiter_bytes())) as events:
                async for event in events:
                    assert (event.retry == "1000") is first, "retry: 1000 comes first"
                    first = False
                    if event.name:
                        self.shown.take(event)
                        yield event


def _key_header(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Idempotency-Key": key or new_key()}


#: Makes a client of a user that nobody else uses, or of the one named.
NewClient = Callable[..., Client]
