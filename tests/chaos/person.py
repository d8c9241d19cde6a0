"""One user, and the scenes that such a user plays: the ways in which people and their clients use a chat."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

from tests.chaos.client import Client, View
from tests.chaos.history import TERMINAL, Ask, GaveUp
from tests.e2e.texts import TEXTS

#: Conversations end before the model's window could trim them, and before too many turns can wait in one.
_MAX_TURNS = 12
_ECHOED = [text for text in TEXTS if len(text) <= 400]
_POLL_SECONDS = (0.1, 0.4)


@dataclass(slots=True)
class Talk:
    """A conversation. Without an id it begins with the next question."""

    id: str | None = None
    turns: int = 0
    #: Ids of replies that the user has seen.
    replies: list[str] = field(default_factory=list)


class Person:
    """A user at work. Every question is unique, and bears the user's marker."""

    def __init__(self, client: Client, marker: str, long_seconds: float) -> None:
        self.client = client
        self.choice = client.choice
        self.long_seconds = long_seconds
        self._marker = marker
        self._talks: list[Talk] = []

    # Questions

    def talk(self, turns: int = 1) -> Talk:
        """One with room for so many turns; sometimes a new one."""
        open_talks = [talk for talk in self._talks if talk.turns + turns <= _MAX_TURNS]
        if not open_talks or self.choice.random() < 0.2:
            return Talk()
        return self.choice.choice(open_talks)

    def ask(self, kind: str, talk: Talk, *, gap: float | None = None, knobs: str = "", **fields: str) -> Ask:
        """A question. The reply tells what the model was given, now and then it is the question itself."""
        talk.turns += 1
        key = uuid4().hex
        answer = fields.pop("answer", "echo" if self.choice.random() < 0.15 else "context")
        gap = self.choice.choice((0.0, 0.0, 0.005, 0.02, 0.05)) if gap is None else gap
        directive = " ".join(filter(None, [answer if answer != "none" else "", f"gap={gap:.4f}", knobs]))
        text = f"{self._marker} {key}"
        if answer == "echo":
            text = f"{text} {self.choice.choice(_ECHOED)}"
        ask = Ask(
            key=key,
            user=self.client.user,
            kind=kind,
            message=f"{{{{{directive}}}}} {text}",
            answer=answer,
            conversation_id=talk.id,
            parent_id=fields.pop("parent_id", None),
            on_busy=fields.pop("on_busy", "enqueue"),
            at=self.client.history.now(),
            echo=text if answer == "echo" else "",
        )
        self.client.history.add(ask)
        return ask

    # How to get an answer

    async def json(self, ask: Ask, talk: Talk, prefer: str = "", gateway: str | None = None) -> dict[str, Any] | None:
        """POST, answered as JSON, and polled where that takes too long; the outcome, if there is one."""
        body = await self.client.chat(ask, prefer, gateway)
        if body is None or "turn_id" not in body:
            return None
        if body.get("status") not in TERMINAL and "code" not in body:
            body = await self.poll(body["turn_id"])
        self.learn(talk, body)
        return body

    async def accepted(self, ask: Ask, talk: Talk) -> str | None:
        """202: the id of the turn."""
        body = await self.client.chat(ask, "respond-async")
        self.learn(talk, body)
        return None if body is None else body.get("turn_id")

    async def poll(self, turn_id: str) -> dict[str, Any] | None:
        """Asks how the turn stands until it is over."""
        history = self.client.history
        began = history.now()
        while (found := await self.client.turn(turn_id)) is not None:
            if found["status"] in TERMINAL:
                return found
            if history.now() - began > self.client.give_up_seconds:
                history.add(GaveUp(self.client.user, "poll", turn_id, began, history.now()))
                return None
            await asyncio.sleep(self.choice.uniform(*_POLL_SECONDS))
        return None

    async def show(self, view: View, talk: Talk, leaves: int = 0) -> None:
        """Follows a view to its end, going away and coming back so many times."""
        for _ in range(leaves):
            await self.client.follow(view, leave_after=self.choice.randint(1, 8))
            if view.ended:
                break
            await asyncio.sleep(self.choice.uniform(0.0, 0.6))
        await self.client.follow(view)
        self.learn(talk, view.ending)
        if talk.id is None:
            self.learn(talk, {"conversation_id": view.conversation_id})

    async def stream(self, ask: Ask, talk: Talk, leaves: int = 0) -> View:
        """POST, answered as events."""
        view = self.client.view(ask)
        await self.show(view, talk, leaves)
        return view

    def learn(self, talk: Talk, body: dict[str, Any] | None) -> None:
        """Where the conversation is, and what was said in it, as far as an answer tells."""
        if body is None:
            return
        if talk.id is None and body.get("conversation_id"):
            talk.id = body["conversation_id"]
            self._talks.append(talk)
        if body.get("status") == "completed" and body.get("message"):
            talk.replies.append(body["message"]["id"])

    async def known_talk(self, turns: int) -> Talk | None:
        """A conversation that exists."""
        talk = self.talk(turns + 1)
        if talk.id is None:
            await self.json(self.ask("json", talk), talk)
        return talk if talk.id is not None else None


# --- scenes ----------------------------------------------------------------------------------------------------------


async def stream(person: Person) -> None:
    """Read as it comes, over connections that the client leaves now and then."""
    talk = person.talk()
    await person.stream(person.ask("stream", talk), talk, leaves=person.choice.choice((0, 0, 1, 2, 4)))


async def json(person: Person) -> None:
    """Asked for as JSON; some do not wait for it as long as it takes."""
    talk = person.talk()
    await person.json(person.ask("json", talk), talk, prefer=person.choice.choice(("", "", "wait=1")))


async def later(person: Person) -> None:
    """Accepted, and polled until it is over."""
    talk = person.talk()
    if (turn_id := await person.accepted(person.ask("later", talk), talk)) is not None:
        person.learn(talk, await person.poll(turn_id))


async def from_the_beginning(person: Person) -> None:
    """Accepted, and then shown from its start: by two clients while it runs, by a third when it is over."""
    talk = person.talk()
    ask = person.ask("from the beginning", talk, gap=0.03)
    if (turn_id := await person.accepted(ask, talk)) is None:
        return
    await asyncio.sleep(person.choice.uniform(0.0, 0.8))
    views = [person.client.view(ask, turn_id) for _ in range(3)]
    await asyncio.gather(*(person.show(view, talk, leaves=1) for view in views[:2]))
    await person.show(views[2], talk)


async def simultaneously(person: Person) -> None:
    """The same request three times at once, at two gateways."""
    talk = person.talk()
    ask = person.ask("simultaneously", talk)
    one, other = person.client.two_gateways()
    views = [person.client.view(ask), person.client.view(ask)]
    await asyncio.gather(
        person.client.follow(views[0], gateway=one),
        person.client.follow(views[1], gateway=other),
        person.json(ask, talk, gateway=other),
    )


async def once_more(person: Person) -> None:
    """The same request again when it is over."""
    talk = person.talk()
    ask = person.ask("once more", talk)
    await person.json(ask, talk)
    await person.json(ask, talk)
    await person.stream(ask, talk)


async def at_once(person: Person) -> None:
    """Several questions in one conversation, none waits for the answer to another."""
    if (talk := await person.known_talk(4)) is None:
        return
    asks = [person.ask("at once", talk) for _ in range(person.choice.randint(2, 4))]
    ways: list[Callable[[Ask, Talk], Awaitable[Any]]] = [person.stream, person.json]
    await asyncio.gather(*(person.choice.choice(ways)(ask, talk) for ask in asks))


async def in_a_row(person: Person) -> None:
    """One question after the other is accepted, before any is answered; each is sent when the one before it was."""
    if (talk := await person.known_talk(3)) is None:
        return
    turns = [await person.accepted(person.ask("in a row", talk), talk) for _ in range(3)]
    await asyncio.gather(*(person.poll(turn_id) for turn_id in turns if turn_id is not None))


async def stopped(person: Person) -> None:
    """Stopped in the middle of its reply."""
    talk = person.talk()
    view = person.client.view(person.ask("stopped", talk, gap=0.15))
    await person.client.follow(view, leave_after=person.choice.randint(1, 6))
    if view.turn_id is not None and not view.ended:
        await asyncio.gather(person.client.cancel(view.turn_id), person.show(view, talk))


async def stopped_early(person: Person) -> None:
    """Stopped while it waits behind another one, or right after it was accepted."""
    talk = person.talk(2)
    running = await person.accepted(person.ask("stopped early", talk, gap=0.1), talk)
    if talk.id is None:
        return
    waiting = await person.accepted(person.ask("stopped early", talk, gap=0.1), talk)
    if waiting is not None:
        await person.client.cancel(waiting)
        await person.poll(waiting)
    if running is not None:
        await person.poll(running)


async def rejected(person: Person) -> None:
    """Sent to a conversation that is busy, by a client that would rather not wait."""
    talk = person.talk(2)
    running = await person.accepted(person.ask("rejected", talk, gap=0.1), talk)
    if talk.id is None:
        return
    way = person.choice.choice((person.stream, person.json))
    await way(person.ask("rejected", talk, on_busy="reject"), talk)
    if running is not None:
        await person.poll(running)


async def interrupting(person: Person) -> None:
    """Interrupts what runs, and what waits behind it."""
    if (talk := await person.known_talk(3)) is None:
        return
    view = person.client.view(person.ask("interrupting", talk, gap=0.15))
    await person.client.follow(view, leave_after=3)
    waiting = await person.accepted(person.ask("interrupting", talk), talk)
    interrupting = person.ask("interrupting", talk, on_busy="interrupt")
    await asyncio.gather(person.json(interrupting, talk), person.show(view, talk))
    if waiting is not None:
        await person.poll(waiting)


async def branch(person: Person) -> None:
    """Continues an earlier reply, or replaces the first question; then goes on from there."""
    if (talk := await person.known_talk(2)) is None:
        return
    parent = person.choice.choice([*talk.replies, "root"])
    await person.stream(person.ask("branch", talk, parent_id=parent), talk, leaves=1)
    await person.json(person.ask("branch", talk), talk)


async def failing(person: Person) -> None:
    """The model fails, as often as it is asked."""
    talk = person.talk()
    way = person.choice.choice((person.stream, person.json))
    await way(person.ask("failing", talk, answer="none", knobs="fail=500"), talk)


async def flaky(person: Person) -> None:
    """The model fails at first."""
    talk = person.talk()
    await person.stream(person.ask("flaky", talk, knobs="fail=503 fail_times=1"), talk)


async def long(person: Person) -> None:
    """A reply that takes its time: checkpoints, heartbeats, and whatever else happens meanwhile."""
    talk = person.talk()
    tokens = 10 * (2 * talk.turns + 1)
    ask = person.ask("long", talk, answer="context", gap=person.long_seconds / tokens)
    await person.stream(ask, talk, leaves=person.choice.choice((0, 1, 3)))


async def reader(person: Person) -> None:
    """Reads what was just said, wherever."""
    talk = person.talk()
    body = await person.json(person.ask("reader", talk), talk)
    if body is not None and talk.id is not None:
        query = {"limit": "100", "after_turn": body["turn_id"]}
        path = f"conversations/{talk.id}/messages"
        await person.client.call("GET", path, "messages", talk.id, params=query)


class Scene(NamedTuple):
    """What to play, and how often compared with others."""

    play: Callable[[Person], Awaitable[None]]
    weight: int

    def __call__(self, person: Person) -> Awaitable[None]:
        """The scene, begun."""
        return self.play(person)


SCENES = {
    play.__name__: Scene(play, weight)
    for play, weight in (
        (stream, 5),
        (json, 2),
        (later, 1),
        (from_the_beginning, 2),
        (simultaneously, 2),
        (once_more, 1),
        (at_once, 2),
        (in_a_row, 1),
        (stopped, 2),
        (stopped_early, 1),
        (rejected, 1),
        (interrupting, 1),
        (branch, 2),
        (failing, 1),
        (flaky, 1),
        (long, 1),
        (reader, 1),
    )
}
