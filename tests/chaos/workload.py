"""Many users with many conversations, whose questions have known answers; everything that happens is written down.

Nothing is asserted here: the checker judges the record. Whatever the system does, the workload goes on.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Awaitable, Callable, Sequence

import aiohttp
from tests.chaos.client import Client
from tests.chaos.facts import Facts, Turn
from tests.chaos.history import Bill, History
from tests.chaos.person import SCENES, Person
from tests.chaos.settlement import settle_user

#: Users that are read back at a time.
_SETTLE_CONCURRENCY = 8


class Workload:
    """The users of a run. `gateways` may change its answer at any time; `token` signs a token for a user.

    `give_up_seconds`: how long a client waits in vain before it writes that down and does something else. `scenes`:
    what they do (person.SCENES).
    """

    def __init__(
        self,
        gateways: Callable[[], Sequence[str]],
        token: Callable[[str], str],
        model_url: str,
        history: History,
        seed: int,
        users: int,
        give_up_seconds: float,
        *,
        scenes: Sequence[str] = tuple(SCENES),
        thinking_seconds: float = 0.4,
        long_seconds: float = 8.0,
        bill_seconds: float = 60.0,
    ) -> None:
        self._gateways = gateways
        self._token = token
        self._model_url = model_url
        self._history = history
        self._seed = seed
        self._give_up_seconds = give_up_seconds
        self._thinking_seconds = thinking_seconds
        self._long_seconds = long_seconds
        self._bill_seconds = bill_seconds
        self._choice = random.Random(seed)
        self._scenes = scenes
        self._deck: list[str] = []
        self._until = 0.0
        for number in range(users):
            marker = f"mk{random.SystemRandom().getrandbits(64):016x}"
            history.users[f"user-{number}-{marker}"] = marker

    async def run(self, seconds: float) -> None:
        """All users do this and that for so long, and end what they have begun."""
        self._until = self._history.now() + seconds
        async with self._session() as http, asyncio.TaskGroup() as group:
            for user in self._history.users:
                group.create_task(self._live(self._client(http, user)))

    def finish(self) -> None:
        """The users of `run` end what they have begun, and begin nothing more."""
        self._until = self._history.now()

    async def settle(self) -> None:
        """Wait until nothing is under way, and read back all that there is."""
        slots = asyncio.Semaphore(_SETTLE_CONCURRENCY)
        turns: dict[str, list[Turn]] = {user: [] for user in self._history.users}
        for turn in Facts(self._history).turns.values():
            turns[turn.ask.user].append(turn)

        async def one(client: Client) -> None:
            async with slots:
                await self._survive(client, "settle", settle_user(client, turns[client.user]))

        async with self._session() as http:
            await asyncio.gather(*(one(self._client(http, user)) for user in self._history.users))
            await self._read_bill(http)
        self._history.settled_at = self._history.now()

    async def _live(self, client: Client) -> None:
        person = Person(client, self._history.users[client.user], self._long_seconds)
        await asyncio.sleep(client.choice.uniform(0, self._thinking_seconds))
        while self._history.now() < self._until:
            scene = self._draw()
            await self._survive(client, scene, SCENES[scene](person))
            await asyncio.sleep(client.choice.uniform(0, self._thinking_seconds))

    def _draw(self) -> str:
        """The next scene: all of them, as often as they should, before the first comes again."""
        if not self._deck:
            self._deck = [name for name in self._scenes for _ in range(SCENES[name].weight)]
            self._choice.shuffle(self._deck)
        return self._deck.pop()

    async def _survive(self, client: Client, what: str, doing: Awaitable[None]) -> None:
        try:
            await doing
        except Exception:  # noqa: BLE001 (an answer of a shape that nobody expects is a finding; the run goes on)
            client.odd(what, traceback.format_exc(limit=-4))

    async def _read_bill(self, http: aiohttp.ClientSession) -> None:
        give_up_at = self._history.now() + self._bill_seconds
        while self._history.now() < give_up_at:
            try:
                async with http.get(f"{self._model_url}/demo/bill", timeout=aiohttp.ClientTimeout(total=20)) as answer:
                    bill = await answer.json()
                self._history.add(Bill(self._history.now(), bill["since"], bill["by_message"]))
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(0.5)
            else:
                return

    def _client(self, http: aiohttp.ClientSession, user: str) -> Client:
        choice = random.Random(f"{self._seed} {list(self._history.users).index(user)}")
        return Client(http, self._gateways, user, self._token(user), self._history, choice, self._give_up_seconds)

    @staticmethod
    def _session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
