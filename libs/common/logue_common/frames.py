"""Frames: the records of chat.stream. The value is the finished SSE data line, so nobody decodes it on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from logue_common.errors import Problem
from logue_common.events import ChatReplied, Headers, ReplyMessage, Usage

# SSE event names (API.md)
QUEUED = "turn.queued"
DELTA = "message.delta"
RESET = "message.reset"
SNAPSHOT = "message.snapshot"
COMPLETED = "message.completed"
FAILED = "turn.failed"
CANCELLED = "turn.cancelled"
# Never shown to a client
CHECKPOINT = "checkpoint"  # the text so far, as the data of a message.snapshot
ATTACH = "attach"  # answers one request: the turn already streams elsewhere, or is decided
REFUSED = "refused"  # answers one request: a problem, no outcome of the turn

END_KINDS = frozenset({COMPLETED, FAILED, CANCELLED})
END_KIND_OF_STATUS = {"completed": COMPLETED, "failed": FAILED, "cancelled": CANCELLED}


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What a gateway must know of a frame without decoding its value. `n` counts from 1 within an attempt."""

    user: str
    attempt: int
    n: int
    kind: str
    #: Set on frames that answer one request of a gateway: they have no n of their own (0).
    request: str | None = None
    #: Set on the first text of an attempt: how long the model took to it. The rest of the wait is Logue's own.
    model_ms: int | None = None

    @property
    def is_end(self) -> bool:
        """True for the last frame of a turn."""
        return self.kind in END_KINDS

    def encode(self) -> Headers:
        """As Kafka headers."""
        headers: Headers = [
            ("user", self.user.encode()),
            ("attempt", b"%d" % self.attempt),
            ("n", b"%d" % self.n),
            ("kind", self.kind.encode()),
        ]
        if self.request is not None:
            headers.append(("request", self.request.encode()))
        if self.model_ms is not None:
            headers.append(("model_ms", b"%d" % self.model_ms))
        return headers

    @classmethod
    def decode(cls, headers: Iterable[tuple[str, bytes]]) -> FrameHeader:
        """From Kafka headers. Raises ValueError when they are not those of a frame."""
        raw = dict(headers)
        try:
            request, model_ms = raw.get("request"), raw.get("model_ms")
            return cls(
                user=raw["user"].decode(),
                attempt=int(raw["attempt"]),
                n=int(raw["n"]),
                kind=raw["kind"].decode(),
                request=None if request is None else request.decode(),
                model_ms=None if model_ms is None else int(model_ms),
            )
        except KeyError as error:
            raise ValueError(f"not a frame: header {error} is missing") from error
        except (AttributeError, TypeError) as error:  # Kafka's headers may have no value
            raise ValueError("not a frame: a header is empty") from error


#: Characters at which some clients split lines although SSE does not (httpx does).
_LINE_SEPARATORS = (("\u2028".encode(), b"\\u2028"), ("\u2029".encode(), b"\\u2029"), ("\x85".encode(), b"\\u0085"))


def sse_data(payload: Any) -> bytes:
    """`payload` as one JSON line that no client splits."""
    data = orjson.dumps(payload)
    for raw, escaped in _LINE_SEPARATORS:
        if raw in data:
            data = data.replace(raw, escaped)
    return data


def delta_data(text: str) -> bytes:
    """Data of message.delta."""
    return sse_data({"delta": text})


def snapshot_data(text: str) -> bytes:
    """Data of message.snapshot, and the value of a checkpoint."""
    return sse_data({"content": text})


def completed_body(
    *, conversation_id: str, turn_id: str, model: str | None, message: ReplyMessage, usage: Usage | None
) -> dict[str, Any]:
    """The JSON body of a completed turn: the 200 response and the data of message.completed."""
    return {
        "conversation_id": conversation_id,
        "turn_id": turn_id,
        "status": "completed",
        "model": model,
        "message": message.model_dump(mode="json"),
        "usage": None if usage is None else usage.model_dump(),
    }


def failed_body(turn_id: str, error: Problem) -> dict[str, Any]:
    """The data of turn.failed."""
    body = error.model_dump(exclude_none=True)
    body["correlation_id"] = turn_id
    body["turn_id"] = turn_id
    return body


def end_frame(outcome: ChatReplied) -> tuple[str, bytes]:
    """Kind and value of the frame that ends the turn of `outcome`."""
    if outcome.status == "completed" and outcome.message is not None:
        body = completed_body(
            conversation_id=outcome.conversation_id,
            turn_id=outcome.turn_id,
            model=outcome.model,
            message=outcome.message,
            usage=outcome.usage,
        )
        return COMPLETED, sse_data(body)
    if outcome.status == "cancelled":
        content = outcome.message.content if outcome.message else ""
        return CANCELLED, sse_data({"turn_id": outcome.turn_id, "content": content})
    if outcome.error is None:
        raise ValueError(f"outcome of turn {outcome.turn_id} is failed but names no error")
    return FAILED, sse_data(failed_body(outcome.turn_id, outcome.error))
