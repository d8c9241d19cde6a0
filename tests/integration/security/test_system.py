"""On a broker that allows nothing but RIGHTS the whole system works, uses all of them, and asks for no more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from tests.integration.security.life import Life, live
from tests.integration.security.secured import Decision, SecuredKafka

from logue_common.rights import RIGHTS, Operation, Resource, Right, user_of
from logue_devstack.process import wait_until
from logue_devstack.stack import Stack

pytestmark = pytest.mark.apache

_SERVICES = {user_of(service): service for service in RIGHTS}
_STREAM = " ".join(f"w{n}" for n in range(1, 21))
_RESUMED = " ".join(f"w{n}" for n in range(1, 41))


@dataclass(frozen=True, slots=True)
class Observed:
    """A life, and what the authorizer decided meanwhile."""

    life: Life
    decisions: set[Decision]
    #: What each process logged, by name.
    logs: dict[str, str]

    def used(self, service: str) -> set[Right]:
        """What was allowed because of a right of its own."""
        return {right_of(each) for each in self.decisions if each.allowed and _SERVICES.get(each.user) == service}


@pytest.fixture(scope="module")
def observed(stack: Stack, broker: SecuredKafka, start: set[Decision]) -> Observed:
    sizes = {name: stack.log(name).stat().st_size for name in stack.names}
    since = sizes[broker.name]
    life = asyncio.run(live(stack, broker))
    wait_until(lambda: sum(_is_burial(each) for each in broker.decisions(since)) == 2, timeout_seconds=10)
    logs = {name: stack.log(name).read_bytes()[size:].decode() for name, size in sizes.items()}
    return Observed(life, start | broker.decisions(since), logs)


def _is_burial(decision: Decision) -> bool:
    return (decision.operation, decision.name) == ("WRITE", "chat.dlq")


def right_of(decision: Decision) -> Right:
    operation = Operation(decision.operation.title())
    return Right(Resource(decision.resource), decision.name, operation)


def test_turns_are_answered_streamed_and_resumed(observed: Observed) -> None:
    life = observed.life
    assert (life.answer["status"], life.stopped["status"]) == ("completed", "cancelled")
    assert (life.streamed.text, life.resumed.text) == (_STREAM, _RESUMED)


def test_a_deleted_conversation_is_gone_and_its_turn_is_stopped(observed: Observed) -> None:
    deleted = observed.life.deleted
    assert (deleted.ending and deleted.ending.name, observed.life.after_deletion) == ("turn.cancelled", 404)


def test_a_turn_that_the_log_does_not_hold_is_failed(observed: Observed) -> None:
    assert (observed.life.lost["status"], observed.life.lost["error"]["code"]) == ("failed", "turn_lost")


def test_who_creates_topics_sees_that_they_exist(observed: Observed) -> None:
    assert observed.life.topics_made_again == []


def test_no_service_was_refused_anything(observed: Observed) -> None:
    assert {decision for decision in observed.decisions if not decision.allowed} == set()


@pytest.mark.parametrize("service", RIGHTS)
def test_every_right_was_used_and_none_was_missing(observed: Observed, service: str) -> None:
    used, rights = observed.used(service), RIGHTS[service]
    implied = {
        Right(right.resource, right.name, Operation.DESCRIBE)
        for right in rights
        if right.operation in (Operation.READ, Operation.WRITE)
    }
    assert used - implied == rights - implied


def test_no_service_speaks_of_a_refusal(observed: Observed) -> None:
    assert [name for name, log in observed.logs.items() if "AuthorizationFailed" in log] == []


def test_no_log_shows_a_password(observed: Observed, stack: Stack, broker: SecuredKafka) -> None:
    for name in [*stack.names, "topics"]:
        log = stack.log(name).read_text()
        assert not any(password in log for password in broker.keys.passwords.values()), name
