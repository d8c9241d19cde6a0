"""What a client can ask of a broker, each as one request that changes nothing, or nothing that is allowed to anybody.

A refusal is told apart by its code; any other answer, an error too, means that the authorizer had nothing against it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DeleteGroupsRequest, DescribeAclsRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.protocol.types import Array, Schema

from logue_common.settings import KafkaSettings

_REFUSALS = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
_CODES = {error.errno for error in _REFUSALS}
_ALL_ANSWERS = 1
_EARLIEST = -2

#: Asks it of a thing by its name.
Attempt = Callable[["Client", str], Awaitable[Any]]


class Client:
    """A connection as one user."""

    def __init__(self, admin: AIOKafkaAdminClient) -> None:
        self.admin = admin

    async def send(self, request: Any) -> Any:
        """To the only broker."""
        return await self.admin._send_request(request)

    async def is_allowed(self, attempt: Attempt, name: str) -> bool:
        """False when the broker refused it for want of a right."""
        try:
            answers = await attempt(self, name)
        except _REFUSALS:
            return False
        return not any(_is_refusal(answer) for answer in (answers if isinstance(answers, list) else [answers]))


@asynccontextmanager
async def connected(settings: KafkaSettings) -> AsyncIterator[Client]:
    admin = AIOKafkaAdminClient(**settings.client_options())
    await admin.start()
    try:
        yield Client(admin)
    finally:
        await admin.close()


def _is_refusal(answer: Any) -> bool:
    return not _CODES.isdisjoint(_codes(answer.SCHEMA, [getattr(answer, name) for name in answer.SCHEMA.names]))


def _codes(schema: Schema, values: Sequence[Any]) -> Iterator[int]:
    """Every error code in an answer, however deep."""
    for name, kind, value in zip(schema.names, schema.fields, values, strict=True):
        if name == "error_code":
            yield value
        elif isinstance(kind, Array) and isinstance(kind.array_of, Schema):
            for element in value or ():
                yield from _codes(kind.array_of, element)


async def read(client: Client, topic: str) -> Any:
    return await client.send(FetchRequest(0, 0, 1, 0, [(topic, [(0, 0, 1)])]))


async def write(client: Client, topic: str) -> Any:
    """No record: that is wrong, which is found after the right was looked up."""
    return await client.send(ProduceRequest(None, _ALL_ANSWERS, 1000, [(topic, [(0, b"")])]))


async def describe(client: Client, topic: str) -> Any:
    return await client.send(OffsetRequest(-1, 0, [(topic, [(0, _EARLIEST)])]))


async def create(client: Client, topic: str) -> Any:
    """Exists already, which is found after the right was looked up."""
    return await client.admin.create_topics([NewTopic(topic, 1, 1)], validate_only=True)


async def delete(client: Client, topic: str) -> Any:
    return await client.admin.delete_topics([topic])


async def alter(client: Client, topic: str) -> Any:
    return await client.admin.create_partitions({topic: NewPartitions(100)}, validate_only=True)


def _configuration(topic: str, values: dict[str, str] | None = None) -> list[ConfigResource]:
    return [ConfigResource(ConfigResourceType.TOPIC, topic, values)]


async def describe_configuration(client: Client, topic: str) -> Any:
    return await client.admin.describe_configs(_configuration(topic))


async def alter_configuration(client: Client, topic: str) -> Any:
    return await client.admin.alter_configs(_configuration(topic, {"retention.ms": "1"}))


async def be_member(client: Client, group: str) -> Any:
    """As one that the group does not know, which is found after the right was looked up."""
    return await client.send(HeartbeatRequest(group, 1, "stranger"))


async def describe_group(client: Client, group: str) -> Any:
    return await client.send(FindCoordinatorRequest(group, 0))


async def delete_group(client: Client, group: str) -> Any:
    return await client.send(DeleteGroupsRequest([group]))


async def transact(client: Client, name: str) -> Any:
    return await client.send(InitProducerIdRequest(name, 1000))


async def describe_rules(client: Client, principal: str) -> Any:
    return await client.send(DescribeAclsRequest(1, None, 1, principal, None, 1, 1))


async def grant(client: Client, principal: str) -> Any:
    """Everything, on every topic."""
    return await client.send(CreateAclsRequest(2, "*", 3, principal, "*", 2, 3))


async def revoke(client: Client, principal: str) -> Any:
    """Everything that it may."""
    return await client.send(DeleteAclsRequest(1, None, 1, principal, None, 1, 1))
