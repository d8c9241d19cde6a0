"""The command that gives every service its rights in Kafka: `python -m logue_common.acls`.

For clusters without an operator that keeps ACLs. It authenticates as a user who may alter the cluster, by the same
variables as the services. Users themselves, with their passwords, are made with Kafka's own tools.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import CreateAclsRequest, DescribeAclsRequest

from logue_common.errors import StartupError
from logue_common.rights import RIGHTS, Operation, Resource, Right, user_of
from logue_common.settings import KafkaSettings

# Kafka's codes (org.apache.kafka.common.resource and .acl).
_ANY = 1
_ALLOW = 3
_LITERAL = 3
_RESOURCES = {Resource.TOPIC: 2, Resource.GROUP: 3}
_OPERATIONS = {Operation.READ: 3, Operation.WRITE: 4, Operation.CREATE: 5, Operation.DESCRIBE: 8}
_EVERY_HOST = "*"

#: A rule of the broker in Kafka's codes: resource, name, pattern, host, operation, permission.
Rule = tuple[int, str, int, str, int, int]


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply_rights` did and found, by service."""

    added: tuple[tuple[str, Right], ...]
    #: Rules for our users that the definition does not know. They stay: somebody may have meant them.
    surplus: tuple[tuple[str, Rule], ...]


async def apply_rights(kafka: KafkaSettings) -> Applied:
    """Give every service the rights that it lacks. Idempotent. Raises the KafkaError of a broker that refuses."""
    added: list[tuple[str, Right]] = []
    surplus: list[tuple[str, Rule]] = []
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        for service, rights in RIGHTS.items():
            principal = f"User:{user_of(service)}"
            present = await _rules_of(admin, principal)
            wanted = {_rule(right): right for right in sorted(rights)}
            for rule, right in wanted.items():
                if rule not in present:
                    await _create(admin, principal, rule)
                    added.append((service, right))
            surplus += [(service, rule) for rule in sorted(present - wanted.keys())]
    finally:
        await admin.close()
    return Applied(tuple(added), tuple(surplus))


def _rule(right: Right) -> Rule:
    return _RESOURCES[right.resource], right.name, _LITERAL, _EVERY_HOST, _OPERATIONS[right.operation], _ALLOW


def _shown(rule: Rule) -> str:
    """For people; codes that the definition does not use stay codes."""
    resource, name, pattern, host, operation, permission = rule
    resources = {code: str(kind) for kind, code in _RESOURCES.items()}
    operations = {code: str(kind) for kind, code in _OPERATIONS.items()}
    what = f"{operations.get(operation, f'operation {operation}')} {resources.get(resource, f'resource {resource}')}"
    return f"{what} {name} (pattern {pattern}, host {host}, permission {permission})"


async def _rules_of(admin: AIOKafkaAdminClient, principal: str) -> set[Rule]:
    question = DescribeAclsRequest(_ANY, None, _ANY, principal, None, _ANY, _ANY)
    answer = await admin._send_request(question)  # noqa: SLF001 (aiokafka 0.14 has the messages, but no method)
    if answer.error_code:
        raise for_code(answer.error_code)(answer.error_message)
    return {
        (resource, name, pattern, host, operation, permission)
        for resource, name, pattern, acls in answer.resources
        for _, host, operation, permission in acls
    }


async def _create(admin: AIOKafkaAdminClient, principal: str, rule: Rule) -> None:
    resource, name, pattern, host, operation, permission = rule
    request = CreateAclsRequest(resource, name, pattern, principal, host, operation, permission)
    answer = await admin._send_request(request)  # noqa: SLF001
    for code, message in answer.creation_responses:
        if code:
            raise for_code(code)(message)


def _main() -> str | None:
    """What went wrong, to be shown instead of a traceback."""
    try:
        applied = asyncio.run(apply_rights(KafkaSettings.load()))
    except StartupError as error:
        return str(error)
    except KafkaError as error:
        return f"Kafka did not grant the rights ({error}). Set LOGUE_KAFKA_… to a user who may alter the cluster."
    for service, right in applied.added:
        print(f"added: {user_of(service)} {right.operation} {right.resource} {right.name}")  # noqa: T201 (an answer)
    for service, rule in applied.surplus:
        print(f"unknown rule, left as it is: {user_of(service)} {_shown(rule)}")  # noqa: T201
    if not applied.added:
        print("added: nothing, every service has its rights")  # noqa: T201
    return None


if __name__ == "__main__":
    sys.exit(_main())
