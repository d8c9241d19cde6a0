"""Asks one Kafka broker how its cluster is: who lives, and who lags behind. One request, and no client library."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from logue_devstack.server import LOOPBACK

_TIMEOUT_SECONDS = 2.0
_METADATA = 3
_VERSION = 1
_ALL_TOPICS = -1


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a broker knows; another one may know better."""

    brokers: frozenset[int]
    """Ids of the live ones."""
    partitions: int
    out_of_sync: frozenset[int]
    """Ids of those, dead or alive, with a replica that is not in sync."""


def read_metadata(port: int) -> Metadata | None:
    """None when the broker does not listen there, or does not answer in time."""
    request = struct.pack(">hhihi", _METADATA, _VERSION, 1, -1, _ALL_TOPICS)  # correlation id 1, no client id
    try:
        with socket.create_connection((LOOPBACK, port), timeout=_TIMEOUT_SECONDS) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as answer:
                head = answer.read(4)
                body = answer.read(int.from_bytes(head, "big"))
    except OSError:
        return None
    return _parse(body) if len(head) == 4 and len(body) == int.from_bytes(head, "big") else None


def _parse(answer: bytes) -> Metadata:
    """The fields of Metadata Response v1, in their order (Kafka protocol guide)."""
    fields = _Fields(answer)
    fields.int32()  # correlation id
    brokers = []
    for _ in range(fields.int32()):
        brokers.append(fields.int32())
        fields.text()  # host
        fields.int32()  # port
        fields.text()  # rack
    fields.int32()  # controller
    partitions = 0
    out_of_sync: set[int] = set()
    for _ in range(fields.int32()):
        fields.int16()  # error
        fields.text()  # name
        fields.int8()  # is it internal?
        for _ in range(fields.int32()):
            fields.int16()  # error
            fields.int32()  # partition
            fields.int32()  # leader
            replicas, in_sync = fields.int32s(), fields.int32s()
            partitions += 1
            out_of_sync.update(set(replicas) - set(in_sync))
    return Metadata(frozenset(brokers), partitions, frozenset(out_of_sync))


class _Fields:
    """Reads big-endian fields one after the other."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._position = 0

    def int8(self) -> int:
        return self._next(">b")

    def int16(self) -> int:
        return self._next(">h")

    def int32(self) -> int:
        return self._next(">i")

    def int32s(self) -> list[int]:
        return [self.int32() for _ in range(self.int32())]

    def text(self) -> None:
        length = self.int16()  # -1: null
        self._position += max(0, length)

    def _next(self, layout: str) -> int:
        (value,) = struct.unpack_from(layout, self._answer, self._position)
        self._position += struct.calcsize(layout)
        return int(value)
