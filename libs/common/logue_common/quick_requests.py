"""Produce requests encoded in one go: 6 µs for one, 12 when aiokafka walks its schema for every field."""

from __future__ import annotations

import struct

from aiokafka.protocol.produce import ProduceRequest, ProduceRequest_v7

_HEAD = struct.Struct(">hhii")
_PARTITION = struct.Struct(">ii")
_NO_TRANSACTION = -1


class QuickProduceRequest(ProduceRequest_v7):  # type: ignore[misc]  # aiokafka is untyped
    """The same bytes (tests/unit/common/test_quick_requests.py)."""

    def encode(self) -> bytes:
        """Part of aiokafka's protocol."""
        if self.transactional_id is not None:
            return bytes(super().encode())
        parts = [_HEAD.pack(_NO_TRANSACTION, self.required_acks, self.timeout, len(self.topics))]
        for topic, partitions in self.topics:
            name = topic.encode()
            parts.append(struct.pack(f">h{len(name)}si", len(name), name, len(partitions)))
            for partition, records in partitions:
                parts += (_PARTITION.pack(partition, len(records)), records)
        return b"".join(parts)


def use_quick_requests() -> None:
    """From now on every producer of this process encodes so."""
    *older, newest = ProduceRequest._CLASSES  # noqa: SLF001 (no public way)
    if newest is ProduceRequest_v7:
        ProduceRequest._CLASSES = (*older, QuickProduceRequest)  # noqa: SLF001
