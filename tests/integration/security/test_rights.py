"""What RIGHTS lists is allowed, and nothing else is: every service, everything there is, every operation."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest
from tests.integration.security import attempts
from tests.integration.security.attempts import Attempt, Client, connected
from tests.integration.security.secured import ADMIN, SecuredKafka

from logue_common.acls import apply_rights
from logue_common.rights import AGENT_GROUP, CONVERSATION_GROUP, RIGHTS, Operation, Resource, Right, user_of
from logue_common.topics import ALL_TOPICS, CHAT_DLQ
from logue_devstack.process import wait_until
from logue_devstack.stack import Stack

pytestmark = pytest.mark.apache

#: A rule that nobody defined, and one of the agent's own, in Kafka's codes.
_FOREIGN = (2, "old", 3, "*", 3, 3)
_DLQ = (2, CHAT_DLQ, 3, "*", 4, 3)
_READY_SECONDS = 30.0
_GROUPS = (AGENT_GROUP, CONVERSATION_GROUP, "somebody-else")
_ON_TOPICS: dict[Operation, Attempt] = {
    Operation.READ: attempts.read,
    Operation.WRITE: attempts.write,
    Operation.CREATE: attempts.create,
    Operation.DESCRIBE: attempts.describe,
}
_ON_GROUPS: dict[Operation, Attempt] = {
    Operation.READ: attempts.be_member,
    Operation.DESCRIBE: attempts.describe_group,
}
_FOR_NOBODY: list[tuple[Attempt, tuple[str, ...]]] = [
    (attempts.delete, ALL_TOPICS),
    (attempts.alter, ALL_TOPICS),
    (attempts.describe_configuration, ALL_TOPICS),
    (attempts.alter_configuration, ALL_TOPICS),
    (attempts.create, ("chat.secrets",)),
    (attempts.read, ("__consumer_offsets",)),
    (attempts.write, ("__consumer_offsets",)),
    (attempts.delete_group, _GROUPS),
    (attempts.transact, ("logue",)),
    (attempts.describe_rules, ("User:logue-gateway",)),
    (attempts.grant, ("User:logue-gateway",)),
    (attempts.revoke, ("User:logue-conversation",)),
]


@pytest.mark.parametrize("service", RIGHTS)
async def test_what_is_listed_is_allowed_and_nothing_else(broker: SecuredKafka, service: str) -> None:
    async with connected(broker.settings_of(user_of(service))) as client:
        allowed = await _allowed(client, Resource.TOPIC, ALL_TOPICS, _ON_TOPICS)
        allowed |= await _allowed(client, Resource.GROUP, _GROUPS, _ON_GROUPS)
    assert allowed == RIGHTS[service] | {
        Right(right.resource, right.name, Operation.DESCRIBE)
        for right in RIGHTS[service]
        if right.operation in (Operation.READ, Operation.WRITE)
    }


async def _allowed(
    client: Client, resource: Resource, names: tuple[str, ...], operations: dict[Operation, Attempt]
) -> set[Right]:
    return {
        Right(resource, name, operation)
        for name in names
        for operation, attempt in operations.items()
        if await client.is_allowed(attempt, name)
    }


@pytest.mark.parametrize("service", RIGHTS)
async def test_what_no_service_needs_is_refused_to_every_one(broker: SecuredKafka, service: str) -> None:
    async with connected(broker.settings_of(user_of(service))) as client:
        allowed = [
            (attempt.__name__, name)
            for attempt, names in _FOR_NOBODY
            for name in names
            if await client.is_allowed(attempt, name)
        ]
    assert allowed == []


async def test_the_attempts_tell_a_right_from_its_absence(broker: SecuredKafka) -> None:
    """An operator may do all of that, so that a refusal above is one for want of a right."""
    harmless = [
        entry for entry in _FOR_NOBODY if entry[0] in (attempts.describe_configuration, attempts.describe_rules)
    ]
    async with connected(broker.settings_of(ADMIN)) as client:
        for attempt, names in [*harmless, (attempts.alter, ALL_TOPICS), (attempts.transact, ("an-operators",))]:
            for name in names:
                assert await client.is_allowed(attempt, name), (attempt.__name__, name)


def test_rights_are_granted_once(broker: SecuredKafka) -> None:
    """By the command, as an operator."""
    again = _grant(broker, ADMIN)
    assert (again.returncode, again.stdout) == (0, "added: nothing, every service has its rights\n")


def test_a_service_cannot_grant_rights(broker: SecuredKafka) -> None:
    refused = _grant(broker, user_of("gateway"))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Kafka did not grant the rights (")
    assert "CLUSTER_AUTHORIZATION_FAILED" in refused.stderr or "ClusterAuthorizationFailed" in refused.stderr


async def test_a_right_that_was_taken_away_is_granted_again_and_others_are_told(broker: SecuredKafka) -> None:
    operator = broker.settings_of(ADMIN)
    async with connected(operator) as client:
        await client.send(attempts.CreateAclsRequest(*_FOREIGN[:3], "User:logue-agent", *_FOREIGN[3:]))
        await client.send(attempts.DeleteAclsRequest(*_DLQ[:3], "User:logue-agent", *_DLQ[3:]))
        applied = await apply_rights(operator)
        told = await asyncio.to_thread(_grant, broker, ADMIN)
        await client.send(attempts.DeleteAclsRequest(*_FOREIGN[:3], "User:logue-agent", *_FOREIGN[3:]))
    assert applied.added == (("agent", Right(Resource.TOPIC, CHAT_DLQ, Operation.WRITE)),)
    assert applied.surplus == (("agent", _FOREIGN),)
    assert "unknown rule, left as it is: logue-agent Read topic old (" in told.stdout


async def test_a_gateway_whose_right_is_taken_away_is_not_ready_until_it_has_it_again(
    stack: Stack, broker: SecuredKafka
) -> None:
    gateway, operator = stack.server("gateway-0"), broker.settings_of(ADMIN)
    async with connected(operator) as client:
        await attempts.revoke(client, "User:logue-gateway")
    assert await asyncio.to_thread(wait_until, lambda: not gateway.is_ready(), _READY_SECONDS)
    await apply_rights(operator)
    assert await asyncio.to_thread(wait_until, gateway.is_ready, _READY_SECONDS)


def _grant(broker: SecuredKafka, user: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LOGUE_KAFKA_BOOTSTRAP": broker.bootstrap, **broker.keys.environment(user)}
    command = [sys.executable, "-m", "logue_common.acls"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
