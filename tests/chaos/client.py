"""A client that writes down everything, never gives up early, and judges nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import aiohttp
from tests.chaos.history import Ask, Connection, Event, Exchange, GaveUp, History, Oddity, tells_outcome
from tests.chaos.shapes import is_answer, is_event
from tests.e2e.sse import ENDS, parse

#: A gateway's comments come every 15 s: after this long without a byte it is taken for dead.
SILENCE_SECONDS = 20.0
#: A stream ends with its last event; this long after it, it should have.
_CLOSE_SECONDS = 10.0
_TIMEOUT = aiohttp.ClientTimeout(total=45.0, sock_connect=5.0)
_STREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=SILENCE_SECONDS)
_COME_BACK = frozenset({429, 503})
_numbers = itertools.count()
#: Whatever becomes of a connection when machines and networks die.
BROKEN = (aiohttp.ClientError, OSError, TimeoutError)


@dataclass(slots=True)
class View:
    """What one client shows of one turn. `ended` once its last event came, or none will."""

    number: int
    ask: Ask
    #: None: the first connection has to ask the question.
    turn_id: str | None = None
    conversation_id: str | None = None
    last_id: str = ""
    ended: bool = False
    ending: dict[str, Any] | None = None
    progressed_at: float = 0.0


class Client:
    """One user's. Every request goes to a gateway chosen at random, or first to the one named."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        gateways: Callable[[], Sequence[str]],
        user: str,
        token: str,
        history: History,
        choice: random.Random,
        give_up_seconds: float,
    ) -> None:
        self.user = user
        self.history = history
        self.choice = choice
        self._http = http
        self._gateways = gateways
        self._headers = {"Authorization": f"Bearer {token}"}
        self.give_up_seconds = give_up_seconds

    def two_gateways(self) -> tuple[str, str]:
        """Two different ones, if there are."""
        urls = list(self._gateways())
        self.choice.shuffle(urls)
        return urls[0], urls[-1]

    # Requests that are answered as a whole

    async def chat(self, ask: Ask, prefer: str = "", gateway: str | None = None) -> dict[str, Any] | None:
        """The JSON answer: the outcome, or that the turn was accepted; None if there was none."""
        body = body_of(ask)
        headers = {"Idempotency-Key": ask.key} | ({"Prefer": prefer} if prefer else {})
        answer = await self.call("POST", "chat", "chat", ask.key, json=body, headers=headers, gateway=gateway)
        return None if answer is None else answer.body

    async def cancel(self, turn_id: str) -> None:
        """Ask to stop it."""
        await self.call("POST", f"turns/{turn_id}/cancel", "cancel", turn_id)

    async def turn(self, turn_id: str, *, final: bool = False) -> dict[str, Any] | None:
        """How it stands."""
        answer = await self.call("GET", f"turns/{turn_id}", "turn", turn_id, final=final)
        return answer.body if answer is not None and answer.status == 200 else None

    async def call(
        self,
        method: str,
        path: str,
        what: str,
        subject: str,
        *,
        gateway: str | None = None,
        final: bool = False,
        headers: dict[str, str] | None = None,
        **request: Any,
    ) -> Exchange | None:
        """Sends until there is an answer that is not "come back later"; None when that took too long."""
        began = self.history.now()
        while True:
            exchange, pause = await self._exchange(
                method, path, what, subject, gateway, final=final, headers=headers, **request
            )
            if exchange.status is not None and (exchange.status not in _COME_BACK or tells_outcome(exchange.body)):
                return exchange
            gateway = None
            if self._is_too_late(began, what, subject):
                return None
            await asyncio.sleep(pause)

    async def _exchange(
        self,
        method: str,
        path: str,
        what: str,
        subject: str,
        gateway: str | None,
        *,
        final: bool,
        headers: dict[str, str] | None,
        **request: Any,
    ) -> tuple[Exchange, float]:
        """One try, and how long to wait before the next."""
        base = gateway or self.choice.choice(list(self._gateways()))
        exchange = Exchange(self.user, what, subject, base, self.history.now(), final)
        self.history.add(exchange)
        pause = self.choice.uniform(0.1, 0.5)
        try:
            async with self._http.request(
                method,
                f"{base}/api/{self.user}/{path}",
                headers=self._headers | (headers or {}),
                timeout=_TIMEOUT,
                **request,
            ) as answer:
                raw = await answer.read()
                exchange.ended = self.history.now()
                exchange.correlation_id = answer.headers.get("X-Correlation-ID")
                exchange.body = self._json(raw, subject) if raw else None
                if is_answer(what, answer.status, exchange.body):
                    exchange.status = answer.status
                else:  # as good as none
                    exchange.broken = "malformed"
                    self.odd(subject, f"{what} was answered with {answer.status} {exchange.body!r}")
                if answer.status in _COME_BACK:
                    pause = self._retry_after(answer, subject)
        except BROKEN as error:
            exchange.ended, exchange.broken = self.history.now(), type(error).__name__
        return exchange, pause

    # Streams

    def view(self, ask: Ask, turn_id: str | None = None) -> View:
        """Of a turn from its start; without its id the first connection asks the question."""
        return View(next(_numbers), ask, turn_id)

    async def follow(self, view: View, *, leave_after: int | None = None, gateway: str | None = None) -> None:
        """Shows the turn to its end, over as many connections as it takes; or leaves after so many events."""
        view.progressed_at = self.history.now()
        while not view.ended:
            connection, pause = await self._connect(view, gateway, leave_after)
            gateway = None
            if view.ended or connection.ending == "left":
                return
            if self._is_too_late(view.progressed_at, "follow", view.turn_id or view.ask.key):
                view.ended = True
            else:
                await asyncio.sleep(pause)

    async def _connect(self, view: View, gateway: str | None, leave_after: int | None) -> tuple[Connection, float]:
        base = gateway or self.choice.choice(list(self._gateways()))
        connection = Connection(
            view=view.number,
            user=self.user,
            key=view.ask.key,
            turn_id=view.turn_id,
            method="GET" if view.last_id or view.turn_id else "POST",
            gateway=base,
            last_event_id=view.last_id,
            began=self.history.now(),
        )
        self.history.add(connection)
        pause = self.choice.uniform(0.1, 0.5)
        try:
            async with self._open(view, connection) as answer:
                connection.status = answer.status
                connection.correlation_id = answer.headers.get("X-Correlation-ID")
                if answer.status == 200:
                    view.turn_id = view.turn_id or connection.correlation_id
                    await self._read(view, connection, answer, leave_after)
                else:
                    connection.ending = "refused"
                    connection.body = self._json(await answer.read(), view.ask.key)
                    if answer.status in _COME_BACK:
                        pause = self._retry_after(answer, view.ask.key)
                    else:
                        view.ended = True
        except BROKEN:
            connection.ending = "broken"
        connection.ended = self.history.now()
        return connection, pause

    def _open(self, view: View, connection: Connection) -> Any:
        base = f"{connection.gateway}/api/{self.user}"
        headers = {**self._headers, "Accept": "text/event-stream"}
        if connection.method == "POST":
            headers["Idempotency-Key"] = view.ask.key
            body = {**body_of(view.ask), "stream": True}
            return self._http.post(f"{base}/chat", json=body, headers=headers, timeout=_STREAM_TIMEOUT)
        if view.last_id:
            headers["Last-Event-ID"] = view.last_id
        return self._http.get(f"{base}/turns/{view.turn_id}/events", headers=headers, timeout=_STREAM_TIMEOUT)

    async def _read(
        self, view: View, connection: Connection, answer: aiohttp.ClientResponse, leave_after: int | None
    ) -> None:
        """Until the stream ends, which it has to after its last event."""
        subject = view.turn_id or view.ask.key
        if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            self.odd(subject, f"the stream is {answer.headers.get('Content-Type')}")
        try:
            async with asyncio.timeout(None) as closing, aclosing(parse(_blocks(answer))) as events:
                first = True
                async for event in events:
                    if (event.retry == "1000") is not first:
                        self.odd(subject, f"retry: 1000 comes once and first, not {event.retry} with {event.name}")
                    first = False
                    if not event.name:
                        continue
                    self._show(view, connection, Event(self.history.now(), event.name, event.id, event.data))
                    if view.ended:
                        closing.reschedule(asyncio.get_running_loop().time() + _CLOSE_SECONDS)
                    elif leave_after is not None and len(connection.events) >= leave_after:
                        connection.ending = "left"
                        return
            connection.ending = "closed"
        except TimeoutError:
            if not view.ended:
                raise
            self.odd(subject, f"the stream was still open {_CLOSE_SECONDS} s after its last event")
        except (AssertionError, ValueError) as error:
            self.odd(subject, f"an event that cannot be read: {error!r}")
            connection.ending = "broken"

    def _show(self, view: View, connection: Connection, event: Event) -> None:
        if not is_event(event.name, event.data):
            self.odd(view.turn_id or view.ask.key, f"{event.name} with the data {event.data!r}")
            return
        connection.events.append(event)
        view.progressed_at = event.at
        view.last_id = event.id or view.last_id
        view.conversation_id = event.data.get("conversation_id") or view.conversation_id
        if event.name in ENDS:
            view.ended, view.ending = True, event.data

    # What both need

    def odd(self, subject: str, text: str) -> None:
        """Note what the API rules out."""
        self.history.add(Oddity(self.user, subject, self.history.now(), text))

    def _is_too_late(self, began: float, what: str, subject: str) -> bool:
        now = self.history.now()
        if now - began < self.give_up_seconds:
            return False
        self.history.add(GaveUp(self.user, what, subject, began, now))
        return True

    def _json(self, raw: bytes, subject: str) -> Any:
        try:
            return json.loads(raw)
        except ValueError:
            self.odd(subject, f"an answer that is not JSON: {raw[:200]!r}")
            return None

    def _retry_after(self, answer: aiohttp.ClientResponse, subject: str) -> float:
        wished = answer.headers.get("Retry-After", "")
        if not wished.isdecimal():
            self.odd(subject, f"{answer.status} with Retry-After: {wished!r}")
            return 1.0
        return float(wished) + self.choice.uniform(0.0, 0.3)


def body_of(ask: Ask) -> dict[str, Any]:
    """What is sent for it, however its answer is to come."""
    return {
        "message": ask.message,
        "conversation_id": ask.conversation_id,
        "parent_id": ask.parent_id,
        "on_busy": ask.on_busy,
    }


async def _blocks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for block in answer.content.iter_any():
        yield block
