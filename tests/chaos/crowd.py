"""Clients that are a burden: some read a byte a second, very many come back at once. Raw sockets: they are cheap."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from urllib.parse import urlsplit

import httpx
from tests.chaos.history import History, Oddity
from tests.e2e.client import Client
from tests.e2e.sse import Shown, parse

_USER = "crowd"
_GIVE_UP_SECONDS = 90.0
#: Turns that the crowd follows.
_TURNS = 4


class Crowd:
    """Many readers of a few turns. What one of them does not get in the end is an oddity of the history."""

    def __init__(
        self,
        gateways: Callable[[], Sequence[str]],
        token: Callable[[str], str],
        history: History,
        choice: random.Random,
    ) -> None:
        self._gateways = gateways
        self._token = token(_USER)
        self._history = history
        self._choice = choice

    async def slow_readers(self, count: int, seconds: float) -> None:
        """Streams of much text, read at a byte a second for so long, then dropped."""
        turns = await self._ask("{{tokens=20000}}")
        await asyncio.gather(*(self._read_slowly(self._choice.choice(turns), seconds) for _ in range(count)))

    async def reconnect(self, count: int) -> None:
        """So many clients lose their streams and come back at the same time; each must get the whole text."""
        turns = await self._ask("{{tokens=40 gap=0.25}}")
        following = [asyncio.create_task(self._follow(self._choice.choice(turns))) for _ in range(count)]
        await asyncio.gather(*following)

    async def _ask(self, knobs: str) -> list[str]:
        async with httpx.AsyncClient(timeout=40) as http:
            client = Client(http, self._gateways, _USER, self._token, self._choice)
            asked = [client.ask(f"crowd {self._choice.random()} {knobs}") for _ in range(_TURNS)]
            return [turn["turn_id"] for turn in await asyncio.gather(*asked)]

    async def _read_slowly(self, turn_id: str, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        with contextlib.suppress(OSError, TimeoutError):  # being cut off is what such a client must expect
            async with self._open(turn_id, "") as reader:
                while loop.time() < until and await asyncio.wait_for(reader.read(1), until - loop.time() + 0.1):
                    await asyncio.sleep(1)

    async def _follow(self, turn_id: str) -> None:
        shown = Shown()
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _GIVE_UP_SECONDS
        while shown.ending is None and loop.time() < give_up:
            try:
                async with asyncio.timeout_at(give_up):
                    await self._follow_once(turn_id, shown)
            except (OSError, TimeoutError, EOFError, asyncio.IncompleteReadError):
                pass
            if shown.ending is None:
                await asyncio.sleep(0.5 + self._choice.random())
        if shown.ending is None:
            self._note(turn_id, "one of a crowd never saw the end of its turn")
        elif shown.ending.name == "message.completed" and shown.ending.data["message"]["content"] != shown.text:
            self._note(turn_id, "one of a crowd was shown another text than its reply has")

    async def _follow_once(self, turn_id: str, shown: Shown) -> None:
        async with self._open(turn_id, shown.last_id) as reader:
            status = int(((await reader.readline()).split() or [b"", b"0"])[1])
            while (await reader.readline()).strip():
                pass
            if status != 200:
                return
            async for event in parse(_chunks(reader)):
                if event.name:
                    shown.take(event)

    @contextlib.asynccontextmanager
    async def _open(self, turn_id: str, last_id: str) -> AsyncIterator[asyncio.StreamReader]:
        url = urlsplit(self._choice.choice(list(self._gateways())))
        reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=16 * 1024)
        try:
            resume = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
            writer.write(
                f"GET /api/{_USER}/turns/{turn_id}/events HTTP/1.1\r\nHost: logue\r\n"
                f"Authorization: Bearer {self._token}\r\n{resume}\r\n".encode()
            )
            yield reader
        finally:
            writer.transport.abort()
            writer.close()

    def _note(self, turn_id: str, text: str) -> None:
        self._history.add(Oddity(_USER, turn_id, self._history.now(), text))


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The body of a chunked response."""
    while size := int((await reader.readline()).strip() or b"0", 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
