"""The topics, what must hold for them, and the command that creates them: `python -m logue_common.topics`."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import lru_cache

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code
from aiokafka.partitioner import murmur2

from logue_common.errors import StartupError
from logue_common.settings import KafkaSettings, TopicSettings

CHAT_REQUESTED = "chat.requested"
CHAT_CANCELS = "chat.cancels"
CHAT_PROGRESSED = "chat.progressed"
CHAT_REPLIED = "chat.replied"
CHAT_STREAM = "chat.stream"
CONVERSATION_CHANGED = "conversation.changed"
CHAT_DLQ = "chat.dlq"

#: Same partition count, same key: the owner of a partition of one owns it in all.
CO_PARTITIONED = (CHAT_REQUESTED, CHAT_CANCELS, CHAT_PROGRESSED, CHAT_REPLIED)
ALL_TOPICS = (*CO_PARTITIONED, CHAT_STREAM, CONVERSATION_CHANGED, CHAT_DLQ)

#: The largest record that Logue writes: a reply of a million characters fits.
MAX_RECORD_BYTES = 4 * 1024 * 1024
#: Retention counts from the end of a segment. Kafka's 1 GiB would keep frames for many hours, on each partition.
_STREAM_SEGMENT_BYTES = 64 * 1024 * 1024
_DAY_MS = 24 * 3600 * 1000
_TOPIC_ALREADY_EXISTS = 36
#: How long a broker may take to learn of new topics.
_KNOWN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is created. Retention in milliseconds; segments as the broker has them, where nothing is said."""

    name: str
    partitions: int
    retention_ms: int
    segment_bytes: int | None = None

    def config(self, replication_factor: int) -> dict[str, int]:
        """Kafka's names and values for a topic with this many replicas."""
        segments = {} if self.segment_bytes is None else {"segment.bytes": self.segment_bytes}
        return {
            "retention.ms": self.retention_ms,
            "max.message.bytes": MAX_RECORD_BYTES + 64 * 1024,
            "min.insync.replicas": min(2, replication_factor),
            **segments,
        }


def topic_specs(settings: TopicSettings) -> list[TopicSpec]:
    """All topics with the partition counts of `settings`."""
    domain = [TopicSpec(name, settings.partitions, 7 * _DAY_MS) for name in CO_PARTITIONED]
    return [
        *domain,
        # Frames matter only while a turn is live; PostgreSQL serves the rest.
        TopicSpec(CHAT_STREAM, settings.stream_partitions, 3600 * 1000, _STREAM_SEGMENT_BYTES),
        TopicSpec(CONVERSATION_CHANGED, settings.changed_partitions, _DAY_MS),
        TopicSpec(CHAT_DLQ, 1, 30 * _DAY_MS),
    ]


@lru_cache(maxsize=10_000)
def partition_of(key: str, partitions: int) -> int:
    """The partition of `key` with Kafka's default partitioner, which aiokafka has in Python: 10 µs for an id."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)


async def ensure_topics(kafka: KafkaSettings, settings: TopicSettings) -> list[str]:
    """Create the topics that are missing; returns their names. Existing ones stay as they are."""
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        missing = [
            NewTopic(
                name=spec.name,
                num_partitions=spec.partitions,
                replication_factor=settings.replication_factor,
                topic_configs={name: str(value) for name, value in spec.config(settings.replication_factor).items()},
            )
            for spec in topic_specs(settings)
            if spec.name not in set(await admin.list_topics())
        ]
        if not missing:
            return []
        response = await admin.create_topics(missing)
        for name, code, *_ in response.topic_errors:
            if code not in (0, _TOPIC_ALREADY_EXISTS):
                raise for_code(code)(name)
        await wait_known(admin, [topic.name for topic in missing])
        return [topic.name for topic in missing]
    finally:
        await admin.close()


async def wait_known(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    """Wait, for ten seconds at most, until the broker that answers knows these topics.

    The controller says that they exist before every broker knows them, and a service that starts then ends.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_KNOWN_SECONDS):
            while any(found["error_code"] for found in await admin.describe_topics(names)):
                await asyncio.sleep(0.05)


def check_co_partitioning(counts: dict[str, int]) -> int:
    """The common partition count of the co-partitioned topics. Raises StartupError when they differ or are missing."""
    found = {name: counts.get(name, 0) for name in CO_PARTITIONED}
    if 0 in found.values() or len(set(found.values())) != 1:
        listing = ", ".join(f"{name}={count}" for name, count in found.items())
        raise StartupError(
            f"The topics {', '.join(CO_PARTITIONED)} must exist with the same number of partitions, "
            f"but have {listing}. Create them with `python -m logue_common.topics`, or give them equal counts; "
            "where Kafka keeps ACLs, a user who lacks the right to read them sees none (`python -m logue_common.acls`)."
        )
    return found[CHAT_REQUESTED]


if __name__ == "__main__":
    created = asyncio.run(ensure_topics(KafkaSettings(), TopicSettings()))
    print("created:", ", ".join(created) or "nothing, all topics exist")  # noqa: T201 (a command's answer)
