"""What a history says about each turn: who acknowledged it, what was shown of it, what is stored. No judgement yet."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.history import TERMINAL, Ask, Connection, Event, Exchange, History, tells_outcome
from tests.e2e.sse import ENDS

_STATUS_OF_END = {"message.completed": "completed", "turn.failed": "failed", "turn.cancelled": "cancelled"}


@dataclass(frozen=True, slots=True)
class Ack:
    """A client was told that the turn exists."""

    at: float
    turn_id: str | None
    conversation_id: str | None
    #: The id of its user message.
    question_id: str | None = None


@dataclass(frozen=True, slots=True)
class End:
    """An outcome as a client was told it; what was not told is None."""

    at: float
    status: str
    #: Where it was told, for people.
    place: str
    turn_id: str | None
    content: str | None = None
    message: dict[str, Any] | None = None
    usage: dict[str, int] | None = None
    code: str | None = None

    @classmethod
    def of_body(cls, at: float, body: dict[str, Any], place: str) -> End:
        """Of the body of message.completed, of a JSON answer, or of a stored turn."""
        if "code" in body:
            return cls(at, "failed", place, body.get("turn_id"), code=body["code"])
        message = body.get("message")
        if body["status"] == "failed":
            code = (body.get("error") or {}).get("code")
            return cls(at, "failed", place, body.get("turn_id"), message=message, usage=body.get("usage"), code=code)
        content = message["content"] if message else ""
        return cls(at, body["status"], place, body.get("turn_id"), content, message, body.get("usage"))

    @classmethod
    def of_event(cls, event: Event, place: str) -> End:
        if event.name == "message.completed":
            return cls.of_body(event.at, event.data, place)
        data = event.data
        status = _STATUS_OF_END[event.name]
        return cls(event.at, status, place, data.get("turn_id"), content=data.get("content"), code=data.get("code"))


class View:
    """What one client showed of one turn, over all its connections."""

    def __init__(self, connections: list[Connection]) -> None:
        self.connections = sorted(connections, key=lambda connection: connection.began)
        first = self.connections[0]
        self.number, self.user, self.key = first.view, first.user, first.key
        self.turn_id = next((each for c in self.connections if (each := _turn_of(c)) is not None), None)
        #: The longest texts that were shown: the last one, and each that was taken back or replaced.
        self.texts: list[str] = []
        self.end: Event | None = None
        #: What API.md rules out.
        self.problems: list[str] = []
        self.resets = self.snapshots = 0
        self._show()
        if any(e.name == "turn.started" for c in self.connections if c.method == "GET" for e in c.events):
            self.problems.append("turn.started on resume")

    def _show(self) -> None:
        text, ids = "", set[str]()
        for position, event in enumerate(self.events):
            if self.end is not None:
                self.problems.append(f"{event.name} after {self.end.name}")
            if not event.id:
                self.problems.append(f"{event.name} has no id")
            match event.name:
                case "message.delta":
                    text += event.data.get("delta", "")
                    if event.id in ids:
                        self.problems.append(f"two pieces of text have the id {event.id}")
                    ids.add(event.id)
                case "message.reset" | "message.snapshot":
                    self.texts.append(text)
                    text = event.data.get("content", "")
                    self.snapshots += event.name == "message.snapshot"
                    self.resets += event.name == "message.reset"
                case "turn.started" if position:
                    self.problems.append("turn.started is not the first event")
                case name if name in ENDS:
                    self.end = event
                case name if name not in ("turn.started", "turn.queued"):
                    self.problems.append(f"unknown event {name}")
        self.texts.append(text)

    @property
    def events(self) -> Iterator[Event]:
        return (event for connection in self.connections for event in connection.events)

    @property
    def text(self) -> str:
        """What is shown in the end."""
        return self.texts[-1]


@dataclass
class Turn:
    """All that is known of what was sent under one key."""

    ask: Ask
    acks: list[Ack] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    #: Stored messages with the ask's text, wherever this user has them, with their conversations.
    questions: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    #: Stored messages of the turn by the assistant.
    replies: list[dict[str, Any]] = field(default_factory=list)
    #: As read in the end; None: it could not be read, `absent`: it is not there.
    stored: dict[str, Any] | None = None
    absent: bool = False
    #: As read on the way.
    polls: list[Exchange] = field(default_factory=list)
    #: Somebody asked to stop it.
    cancelled: bool = False

    @property
    def id(self) -> str | None:
        told = (ack.turn_id for ack in self.acks if ack.turn_id)
        return next(told, None) or next((question["turn_id"] for _, question in self.questions), None)

    @property
    def name(self) -> str:
        """For people."""
        return self.id or f"key {self.ask.key}"

    @property
    def conversation_id(self) -> str | None:
        told = (ack.conversation_id for ack in self.acks if ack.conversation_id)
        return self.ask.conversation_id or next(told, None) or next((each for each, _ in self.questions), None)

    @property
    def acknowledged_at(self) -> float:
        """The end of time if it never was."""
        return min((ack.at for ack in self.acks), default=math.inf)

    @property
    def over_at(self) -> float:
        """When somebody was first told that it is over; the end of time if nobody ever was."""
        return min((end.at for end in self.ends), default=math.inf)

    @property
    def end(self) -> End | None:
        """The stored outcome."""
        if self.stored is None or self.stored["status"] not in TERMINAL:
            return None
        return End.of_body(0.0, self.stored, "store")


class Facts:
    """A history, turn by turn and conversation by conversation."""

    def __init__(self, history: History) -> None:
        self.history = history
        #: By key.
        self.turns = {ask.key: Turn(ask) for ask in history.asks}
        #: (user, conversation) → messages, as read in the end.
        self.lists: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        #: (user, conversation), as listed in the end.
        self.conversations: list[tuple[str, str]] = []
        self.all_views = _views(history)
        self._read_lists()
        self._find_questions()
        self._acknowledge()
        #: (user, turn) → turn.
        self.by_id = {(turn.ask.user, turn.id): turn for turn in self.turns.values() if turn.id is not None}
        #: (user, conversation) → turns.
        self.by_conversation: dict[tuple[str, str], list[Turn]] = defaultdict(list)
        for turn in self.turns.values():
            if turn.conversation_id is not None:
                self.by_conversation[turn.ask.user, turn.conversation_id].append(turn)
        self._find_replies()
        self._read_turns()

    @property
    def clocks_agree(self) -> bool:
        """Whether what services write down as the time of day can be compared."""
        return not any("clock" in fault.kind for fault in self.history.faults)

    def _read_lists(self) -> None:
        for exchange in self.history.exchanges:
            if exchange.final and exchange.status == 200:
                if exchange.what == "messages":
                    self.lists[exchange.user, exchange.subject] += exchange.body["items"]
                elif exchange.what == "conversations":
                    self.conversations += [(exchange.user, item["id"]) for item in exchange.body["items"]]

    def _find_questions(self) -> None:
        asked = {(turn.ask.user, turn.ask.message): turn for turn in self.turns.values()}
        for (user, conversation_id), messages in self.lists.items():
            for message in messages:
                if message["role"] == "user" and (turn := asked.get((user, message["content"]))) is not None:
                    turn.questions.append((conversation_id, message))

    def _acknowledge(self) -> None:
        for exchange in self.history.exchanges:
            turn = self.turns.get(exchange.subject) if exchange.what == "chat" else None
            if turn is None or exchange.status is None:
                continue
            if exchange.status == 202 or tells_outcome(exchange.body):
                body = exchange.body
                turn.acks.append(Ack(exchange.ended, body["turn_id"], body.get("conversation_id")))
            if exchange.status != 202 and tells_outcome(exchange.body):  # 202 says how the turn stands, not its text
                turn.ends.append(End.of_body(exchange.ended, exchange.body, f"JSON of {exchange.gateway}"))
        for view in self.all_views:
            if (turn := self.turns.get(view.key)) is not None:
                turn.views.append(view)
                turn.acks += _acks(view)
                if view.end is not None:
                    turn.ends.append(End.of_event(view.end, f"view {view.number}"))

    def _find_replies(self) -> None:
        for (user, _), messages in self.lists.items():
            for message in messages:
                if message["role"] != "user" and (turn := self.by_id.get((user, message["turn_id"]))) is not None:
                    turn.replies.append(message)

    def _read_turns(self) -> None:
        for exchange in self.history.exchanges:
            turn = self.by_id.get((exchange.user, exchange.subject))
            if turn is not None and exchange.what == "cancel":
                turn.cancelled = True
            elif turn is not None and exchange.what == "turn":
                _note(turn, exchange)


def _views(history: History) -> list[View]:
    groups = defaultdict(list)
    for connection in history.connections:
        groups[connection.view].append(connection)
    return [View(group) for group in groups.values()]


def _turn_of(connection: Connection) -> str | None:
    return connection.turn_id or (connection.correlation_id if connection.status == 200 else None)


def _acks(view: View) -> Iterator[Ack]:
    for connection in view.connections:
        if connection.status != 200:
            continue
        for event in connection.events:
            if event.name in ("turn.started", "message.completed"):
                told = event.data
                question_id = told.get("user_message_id")
                yield Ack(event.at, told.get("turn_id"), told.get("conversation_id"), question_id)
        at = connection.events[0].at if connection.events else connection.ended or math.inf
        yield Ack(at, connection.correlation_id, None)


def _note(turn: Turn, exchange: Exchange) -> None:
    if exchange.status == 200:
        turn.polls.append(exchange)
        if exchange.body["status"] in TERMINAL:
            turn.ends.append(End.of_body(exchange.ended, exchange.body, "GET turn"))
    if exchange.final:
        turn.stored = exchange.body if exchange.status == 200 else None
        turn.absent = exchange.status == 404
