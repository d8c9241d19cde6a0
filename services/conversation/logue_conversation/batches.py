"""A batch: what one transaction of the writer stores, and how far in the log that brings it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka.structs import TopicPartition

from logue_common.dead_letters import Record
from logue_common.errors import UnreadableRecordError
from logue_common.events import AttemptStarted, ChatReplied, ChatRequested, decode
from logue_common.topics import CHAT_PROGRESSED, CHAT_REPLIED, CHAT_REQUESTED
from logue_common.tracing import cause_of
from logue_conversation.batch_trace import Traced
from logue_conversation.projection import Logged, TurnEvent

#: In this order within a batch: requests first makes fewest stubs. The result does not depend on it.
TOPICS = (CHAT_REQUESTED, CHAT_PROGRESSED, CHAT_REPLIED)
_EVENT_OF_TOPIC: dict[str, type[TurnEvent]] = {
    CHAT_REQUESTED: ChatRequested,
    CHAT_PROGRESSED: AttemptStarted,
    CHAT_REPLIED: ChatReplied,
}


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in the order in which they are applied, and the next offset of every partition that they come from."""

    events: list[Logged]
    positions: dict[TopicPartition, int]

    def halves(self) -> tuple[Batch, Batch]:
        """The batch cut in two, to be stored one after the other."""
        middle = len(self.events) // 2
        first = self.events[:middle]
        passed = {TopicPartition(e.topic, e.partition): e.offset + 1 for e in first}
        return Batch(first, passed), Batch(self.events[middle:], self.positions)

    def without_events(self) -> Batch:
        """Only the positions: its events were put elsewhere."""
        return Batch([], self.positions)


@dataclass(slots=True)
class Decoded:
    """Records of the log, decoded."""

    batch: Batch
    #: What the batch's events were decoded from, one by one.
    records: list[Record] = field(default_factory=list)
    unreadable: list[tuple[Record, UnreadableRecordError]] = field(default_factory=list)
    #: Records of a type that this version does not know: additive changes are ignored.
    unknown: int = 0
    traced: list[Traced] = field(default_factory=list)

    def record_of(self, event: Logged) -> Record:
        """The record that `event` was decoded from."""
        return next(r for logged, r in zip(self.batch.events, self.records, strict=True) if logged is event)


def decode_poll(polled: Mapping[TopicPartition, Sequence[Record]]) -> Decoded:
    """Decode everything that can be; never raises because of a record."""
    decoded = Decoded(Batch([], {}))
    for partition, records in sorted(polled.items(), key=lambda item: (TOPICS.index(item[0].topic), item[0].partition)):
        for record in records:
            _decode(record, decoded)
        decoded.batch.positions[partition] = records[-1].offset + 1
    return decoded


def _decode(record: Record, decoded: Decoded) -> None:
    model = _EVENT_OF_TOPIC[record.topic]
    headers = dict(record.headers)
    told = headers.get("ce_type")
    if told is not None and told != model.event_type.encode():
        decoded.unknown += 1
        return
    try:
        event = decode(model, record.value)
    except UnreadableRecordError as error:
        decoded.unreadable.append((record, error))
        return
    logged = Logged(record.topic, record.partition, record.offset, event)
    decoded.batch.events.append(logged)
    decoded.records.append(record)
    header = headers.get("traceparent")
    if header is not None and cause_of(header).trace_flags.sampled:
        decoded.traced.append(Traced(logged, header))
