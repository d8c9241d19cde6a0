"""Users with conversations: who asks what, at which port. The same for every system that is compared."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from tests.bench.systems import System
from tests.bench.wire import Exchange, Question, WireClient

#: So that a known conversation stays one of ordinary length.
TURNS_PER_CONVERSATION = 10


class User:
    """Asks in one conversation, and in another one after ten turns."""

    def __init__(self, system: System, client: WireClient, name: str, message: str, tokens: int) -> None:
        self._client = client
        self.name = name
        self._message = message
        self._tokens = tokens
        self.token = system.token(name)
        self._is_model = system.is_model
        self.conversation_id: str | None = None
        self._turns = 0

    @property
    def is_new(self) -> bool:
        """The next question begins a conversation."""
        return self._turns % TURNS_PER_CONVERSATION == 0

    async def ask(self, watch: Callable[[Exchange], None] | None = None) -> Exchange:
        """The next question, and what comes of it."""
        if self.is_new:
            self.conversation_id = None
        self._turns += 1
        exchange = await self._client.ask(self._question(), watch=watch)
        if exchange.is_answered:
            self.conversation_id = exchange.conversation_id or None
        else:
            self._turns = 0  # the next one begins anew
        return exchange

    def _question(self) -> Question:
        if self._is_model:
            return self._client.question_to_model(self._message, tokens=self._tokens)
        return self._client.question(self.name, self.token, self._message, self.conversation_id, tokens=self._tokens)


class Population:
    """Users of one system, spread over its ports. Nobody asks twice at a time: `idle` gives one who is free."""

    def __init__(self, system: System, users: int, message: str = "How are you today?", *, tokens: int = 20) -> None:
        self._clients = [WireClient("127.0.0.1", port) for port in system.ports]
        directive = f"{{{{tokens={tokens}}}}} {message}" if "{{" not in message else message
        self.users = [
            User(system, client, f"user-{number}", directive, tokens)
            for number, client in zip(range(users), itertools.cycle(self._clients), strict=False)
        ]
        self._free = list(reversed(self.users))
        self._next = itertools.count(users)
        self._system = system
        self._message = directive
        self._tokens = tokens

    async def ask(self) -> Exchange:
        """One question of a user who has none open; a new user where all have."""
        user = self._free.pop(0) if self._free else self._newcomer()
        try:
            return await user.ask()
        finally:
            self._free.append(user)

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()

    def _newcomer(self) -> User:
        number = next(self._next)
        client = self._clients[number % len(self._clients)]
        return User(self._system, client, f"user-{number}", self._message, self._tokens)
