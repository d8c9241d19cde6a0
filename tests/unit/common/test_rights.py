"""The rights of the services: about things that exist, as few as can be, and as the document shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from logue_agent.settings import AgentSettings
from logue_common.rights import AGENT_GROUP, CONVERSATION_GROUP, RIGHTS, Operation, Resource, Right, topics_of, user_of
from logue_common.topics import ALL_TOPICS, CHAT_REPLIED
from logue_conversation import reconciler, subscriber

_SERVICES = ("gateway", "agent", "conversation")


def test_groups_are_those_of_the_services() -> None:
    assert AgentSettings.model_fields["agent_group"].default == AGENT_GROUP == reconciler.AGENT_GROUP
    assert subscriber.GROUP == CONVERSATION_GROUP


def test_rights_are_about_topics_and_groups_that_exist() -> None:
    known = {Resource.TOPIC: set(ALL_TOPICS), Resource.GROUP: {AGENT_GROUP, CONVERSATION_GROUP}}
    assert all(right.name in known[right.resource] for rights in RIGHTS.values() for right in rights)


@pytest.mark.parametrize("service", _SERVICES)
def test_a_service_creates_nothing(service: str) -> None:
    assert not topics_of(service, Operation.CREATE)


def test_a_gateway_joins_no_group_and_decides_no_turn() -> None:
    assert {right.resource for right in RIGHTS["gateway"]} == {Resource.TOPIC}
    assert CHAT_REPLIED not in topics_of("gateway", Operation.WRITE)


def test_every_topic_but_that_for_people_is_written_and_read() -> None:
    for operation, exempt in ((Operation.WRITE, set()), (Operation.READ, {"chat.dlq"})):
        found = {name for service in RIGHTS for name in topics_of(service, operation)}
        assert found == set(ALL_TOPICS) - exempt


def test_the_document_shows_exactly_these_rights(repository: Path) -> None:
    lines = (repository / "docs" / "security.md").read_text().splitlines()
    begin = lines.index(_row("", [f"`{user_of(service)}`" for service in RIGHTS]))
    end = lines.index("", begin)
    assert lines[begin + 2 : end] == [
        _row(f"{resource} `{name}`", [_cell(service, resource, name) for service in RIGHTS])
        for resource, names in ((Resource.TOPIC, ALL_TOPICS), (Resource.GROUP, (AGENT_GROUP, CONVERSATION_GROUP)))
        for name in names
    ]


def _row(what: str, cells: list[str]) -> str:
    return f"| {' | '.join([what, *cells])} |".replace("|  |", "| |")


def _cell(service: str, resource: Resource, name: str) -> str:
    found = [operation for operation in Operation if Right(resource, name, operation) in RIGHTS[service]]
    return ", ".join(found) or "–"
