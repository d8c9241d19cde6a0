"""What a partition wants done: the pure objects decide, the subscriber acts."""

from __future__ import annotations

from dataclasses import dataclass

from logue_agent.turn import Turn
from logue_common.errors import Problem
from logue_common.events import ChatReplied, ChatRequested, ReplyTo


@dataclass(frozen=True, slots=True)
class Run:
    """The turn is first in its lane: answer it."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Queued:
    """The turn waits behind `position` others of its conversation."""

    turn: Turn
    position: int


@dataclass(frozen=True, slots=True)
class Decide:
    """Write an outcome for a turn that does not run: cancelled (`problem` None) or failed."""

    turn: Turn
    problem: Problem | None


@dataclass(frozen=True, slots=True)
class Stop:
    """End the running turn as cancelled, keeping its partial text."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Abandon:
    """Let go of the work on this turn without a word."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Repeat:
    """A retry of a decided turn: send its end frame to where `request` waits. Nothing has changed by it."""

    request: ChatRequested
    outcome: ChatReplied


@dataclass(frozen=True, slots=True)
class End:
    """The log decided: send the end frame to where `request` waits. `again`: it was decided before this record came."""

    request: ChatRequested
    outcome: ChatReplied
    again: bool = False
    traceparent: bytes | None = None


@dataclass(frozen=True, slots=True)
class Attach:
    """Answer one request for a known turn: it streams at `live`, or (None) is decided and in the store."""

    request: ChatRequested
    live: ReplyTo | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer one request with a problem; no outcome of the turn."""

    request: ChatRequested
    problem: Problem


Action = Run | Queued | Decide | Stop | Abandon | End | Attach | Refuse | Repeat
