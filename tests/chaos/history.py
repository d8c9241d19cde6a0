"""The record of a run: all that was sent, acknowledged, streamed, shown and stored, and what was done to the system.

Nothing here judges; checker.py does, from this record alone. Times are seconds since the run began, by a clock that
never steps; `began_at` is that moment in epoch seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

TERMINAL = frozenset({"completed", "failed", "cancelled"})
#: Problems that name a turn but are no outcome of it: what became of the request, not of the turn.
_NO_OUTCOMES = frozenset({"accept_unknown", "idempotency_mismatch"})


@dataclass(slots=True)
class Ask:
    """A message that a user wanted answered, noted before anything was sent."""

    #: The Idempotency-Key: whatever is sent under it is this turn.
    key: str
    user: str
    #: How the workload went about it.
    kind: str
    message: str
    #: What the model says: "context" (digests of all that it was given), "echo" (of `echo`), "none" (it fails).
    answer: str
    conversation_id: str | None
    parent_id: str | None
    on_busy: str
    at: float
    echo: str = ""


@dataclass(slots=True)
class Exchange:
    """A request that is answered as a whole. No `status`: the connection broke, `broken` says how."""

    user: str
    #: chat, cancel, turn, conversations, messages, or resume (which is expected to have nothing to tell).
    what: str
    #: The turn, conversation or, of a chat, the key that it is about.
    subject: str
    gateway: str
    began: float
    #: Read back when everything was over: the final state.
    final: bool = False
    ended: float = 0.0
    status: int | None = None
    body: Any = None
    correlation_id: str | None = None
    broken: str = ""


class Event(NamedTuple):
    """A server-sent event. `id` is "" when it has none."""

    at: float
    name: str
    id: str
    data: Any


@dataclass(slots=True)
class Connection:
    """One connection of a view: of what a client shows of one turn, from its first event on."""

    view: int
    user: str
    #: Of the ask; "" where the client knows the turn only.
    key: str
    turn_id: str | None
    method: str
    gateway: str
    last_event_id: str
    began: float
    ended: float = 0.0
    status: int | None = None
    correlation_id: str | None = None
    #: open, closed (by the server), left (by the client), broken, refused (not 200; `body` says why).
    ending: str = "open"
    body: Any = None
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class GaveUp:
    """A client that waited in vain: since `began`, until `ended`."""

    user: str
    what: str
    subject: str
    began: float
    ended: float


@dataclass(slots=True)
class Oddity:
    """Something that the API rules out, seen by a client."""

    user: str
    subject: str
    at: float
    text: str


@dataclass(slots=True)
class Fault:
    """Something that was done to the system; `ended` None: it was never undone."""

    kind: str
    target: str
    began: float
    ended: float | None = None


@dataclass(slots=True)
class Bill:
    """What the model server billed by last user message since then (epoch seconds), read at `at`."""

    at: float
    since: float
    by_message: dict[str, list[dict[str, int]]]


Record = Ask | Exchange | Connection | GaveUp | Oddity | Fault | Bill
_TYPES = {record.__name__: record for record in (Ask, Exchange, Connection, GaveUp, Oddity, Fault, Bill)}


@dataclass
class History:
    """All records of a run."""

    seed: int = 0
    began_at: float = field(default_factory=time.time)
    #: Marker by user: a text that all messages of the user contain, and none of anybody else.
    users: dict[str, str] = field(default_factory=dict)
    #: When everything had been read back; None if the run did not get there.
    settled_at: float | None = None
    records: list[Record] = field(default_factory=list)
    _zero: float = field(default_factory=time.monotonic, repr=False, compare=False)

    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._zero

    def wall(self, at: float) -> datetime:
        """That moment as a time of day."""
        return datetime.fromtimestamp(self.began_at + at, UTC)

    def at(self, time_of_day: str) -> float:
        """That time of day (RFC 3339) as a moment of the run."""
        return datetime.fromisoformat(time_of_day).timestamp() - self.began_at

    def add(self, record: Record) -> None:
        """Records may be filled in after they were added."""
        self.records.append(record)

    @contextmanager
    def fault(self, kind: str, target: str) -> Iterator[Fault]:
        """Notes a fault that lasts as long as the block."""
        fault = Fault(kind, target, self.now())
        self.add(fault)
        try:
            yield fault
        finally:
            fault.ended = self.now()

    @property
    def asks(self) -> list[Ask]:
        return [record for record in self.records if isinstance(record, Ask)]

    @property
    def exchanges(self) -> list[Exchange]:
        return [record for record in self.records if isinstance(record, Exchange)]

    @property
    def connections(self) -> list[Connection]:
        return [record for record in self.records if isinstance(record, Connection)]

    @property
    def give_ups(self) -> list[GaveUp]:
        return [record for record in self.records if isinstance(record, GaveUp)]

    @property
    def oddities(self) -> list[Oddity]:
        return [record for record in self.records if isinstance(record, Oddity)]

    @property
    def faults(self) -> list[Fault]:
        return [record for record in self.records if isinstance(record, Fault)]

    @property
    def bills(self) -> list[Bill]:
        return [record for record in self.records if isinstance(record, Bill)]

    def write(self, path: Path) -> None:
        """As JSON lines."""
        head = {name: getattr(self, name) for name in ("seed", "began_at", "users", "settled_at")}
        with path.open("w") as file:
            file.write(json.dumps(head) + "\n")
            for record in self.records:
                line = {item.name: getattr(record, item.name) for item in fields(record)}
                file.write(json.dumps({"type": type(record).__name__, **line}) + "\n")

    @classmethod
    def read(cls, path: Path) -> History:
        """What `write` wrote."""
        with path.open() as file:
            history = cls(**json.loads(next(file)))
            for line in file:
                values = json.loads(line)
                record = _TYPES[values.pop("type")](**values)
                if isinstance(record, Connection):
                    record.events = [Event(*event) for event in record.events]
                history.add(record)
        return history


def tells_outcome(body: Any) -> bool:
    """Whether the JSON body of an answer to a chat request is the outcome of its turn."""
    if not isinstance(body, dict) or "turn_id" not in body:
        return False
    return body.get("status") in TERMINAL or ("code" in body and body["code"] not in _NO_OUTCOMES)
