"""Who may do what in Kafka: the one definition, from which ACLs and the AsyncAPI document are made.

A right that is listed is one that its service uses, and none is missing: tests/integration/security compares this with
what a real broker was asked. Read and Write imply Describe (Kafka's authorizer). Idempotent producers need no right of
their own since Kafka 2.8 (KIP-679), clients without a group none on a group, and nobody one on the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from logue_common.topics import (
    ALL_TOPICS,
    CHAT_CANCELS,
    CHAT_DLQ,
    CHAT_PROGRESSED,
    CHAT_REPLIED,
    CHAT_REQUESTED,
    CHAT_STREAM,
    CO_PARTITIONED,
    CONVERSATION_CHANGED,
)

AGENT_GROUP = "logue-agent"
CONVERSATION_GROUP = "logue-conversation"


class Resource(StrEnum):
    """Kinds of things that rights are about, as kafka-acls and Strimzi spell them."""

    TOPIC = "topic"
    GROUP = "group"


class Operation(StrEnum):
    """As kafka-acls and Strimzi spell them."""

    READ = "Read"
    WRITE = "Write"
    CREATE = "Create"
    DESCRIBE = "Describe"


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One operation on one thing, by its full name."""

    resource: Resource
    name: str
    operation: Operation


def user_of(service: str) -> str:
    """The name under which `service` authenticates; its principal is `User:` and this."""
    return f"logue-{service}"


def _rights(
    *,
    reads: tuple[str, ...] = (),
    writes: tuple[str, ...] = (),
    creates: tuple[str, ...] = (),
    joins: tuple[str, ...] = (),
    watches: tuple[str, ...] = (),
) -> frozenset[Right]:
    return frozenset(
        Right(resource, name, operation)
        for resource, operation, names in (
            (Resource.TOPIC, Operation.READ, reads),
            (Resource.TOPIC, Operation.WRITE, writes),
            (Resource.TOPIC, Operation.CREATE, creates),
            (Resource.TOPIC, Operation.DESCRIBE, creates),  # to see which of them are missing
            (Resource.GROUP, Operation.READ, joins),
            (Resource.GROUP, Operation.DESCRIBE, watches),
        )
        for name in names
    )


#: By service; `topics` is the command that creates them (`python -m logue_common.topics`).
RIGHTS: Mapping[str, frozenset[Right]] = {
    "gateway": _rights(reads=(CHAT_STREAM, CONVERSATION_CHANGED), writes=(CHAT_REQUESTED, CHAT_CANCELS)),
    "agent": _rights(
        reads=CO_PARTITIONED,
        writes=(CHAT_PROGRESSED, CHAT_REPLIED, CHAT_STREAM, CHAT_DLQ),
        joins=(AGENT_GROUP,),
    ),
    "conversation": _rights(
        reads=(CHAT_REQUESTED, CHAT_PROGRESSED, CHAT_REPLIED),
        # Cancels of what runs in a deleted conversation; the outcomes of turns that got lost.
        writes=(CONVERSATION_CHANGED, CHAT_CANCELS, CHAT_REPLIED, CHAT_DLQ),
        joins=(CONVERSATION_GROUP,),
        # How far the agents are: before a turn is taken for lost.
        watches=(AGENT_GROUP,),
    ),
    "topics": _rights(creates=ALL_TOPICS),
}


def topics_of(service: str, operation: Operation) -> list[str]:
    """The topics on which `service` may do that, in the order of ALL_TOPICS."""
    return [name for name in ALL_TOPICS if Right(Resource.TOPIC, name, operation) in RIGHTS[service]]
