"""SSE ids: `partition.offset.attempt.n.mac`. Positions in the log that prove which turn they belong to.

A terminal event's id has an `e` after n: a client that comes back with it has seen everything.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass

from logue_common.errors import ProblemError

#: 128 bits of HMAC-SHA256: nobody guesses it, and it adds 22 characters to an event.
_MAC_BYTES = 16
_PATTERN = re.compile(
    r"(?P<partition>\d{1,6})\.(?P<offset>-1|\d{1,18})\.(?P<attempt>\d{1,9})\.(?P<n>\d{1,9})(?P<end>e?)"
    r"\.(?P<mac>[A-Za-z0-9_-]{22})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class EventId:
    """Everything up to this record of the partition, and up to (attempt, n) of the turn, was seen."""

    partition: int
    offset: int
    attempt: int
    n: int
    is_end: bool = False


class StreamIds:
    """Ids of one turn's events."""

    __slots__ = ("mac",)

    def __init__(self, mac: bytes) -> None:
        self.mac = mac

    def format(self, event: EventId) -> bytes:
        """The id as it is sent."""
        end = b"e" if event.is_end else b""
        return b"%d.%d.%d.%d%b.%b" % (event.partition, event.offset, event.attempt, event.n, end, self.mac)

    def parse(self, text: str) -> EventId:
        """The position in a Last-Event-ID. Raises ProblemError (400) when it is not one of this turn."""
        match = _PATTERN.fullmatch(text)
        if match is None or not hmac.compare_digest(match["mac"].encode(), self.mac):
            raise ProblemError(
                "bad_request", "Last-Event-ID is not an event of this turn. Leave it out to get the whole reply."
            )
        return EventId(
            int(match["partition"]), int(match["offset"]), int(match["attempt"]), int(match["n"]), bool(match["end"])
        )


class EventIds:
    """Makes and checks ids with the secret that all replicas share."""

    def __init__(self, secret: str) -> None:
        self._key = secret.encode()

    def of(self, user_id: str, turn_id: str) -> StreamIds:
        """The ids of one turn: one MAC a stream, over length-prefixed user and turn."""
        mac = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in (user_id.encode(), turn_id.encode()):
            mac.update(len(part).to_bytes(4, "big"))
            mac.update(part)
        return StreamIds(base64.urlsafe_b64encode(mac.digest()[:_MAC_BYTES]).rstrip(b"="))
