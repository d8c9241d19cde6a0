"""The whole system on a secured Apache Kafka, each service as its own user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from tests.integration.security.secured import Decision, Keys, SecuredKafka

from logue_common.rights import RIGHTS, user_of
from logue_devstack.apache_kafka import jar_folder, missing_tools
from logue_devstack.blueprint import Blueprint, BrokerKind
from logue_devstack.server import free_ports
from logue_devstack.stack import Stack

#: Turns that nobody will answer are found soon.
_FAST = {"LOGUE_CONVERSATION_LOST_AFTER_SECONDS": "1", "LOGUE_CONVERSATION_RECONCILE_INTERVAL_SECONDS": "0.5"}


@pytest.fixture(scope="package")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[Stack]:
    """One of each service."""
    if (problem := missing_tools(jar_folder())) is not None:
        pytest.skip(problem)
    broker_port, controller_port = free_ports(2)
    made: list[SecuredKafka] = []

    def brokers(blueprint: Blueprint) -> Sequence[SecuredKafka]:
        if not made:
            made.append(
                SecuredKafka(
                    blueprint.store / "broker",
                    blueprint.ports.broker,
                    broker_port=broker_port,
                    controller_port=controller_port,
                    keys=keys,
                    log=blueprint.log("broker"),
                    stopping=blueprint.stopping,
                )
            )
        return made

    with Stack(
        tmp_path_factory.mktemp("secured"),
        broker=BrokerKind.APACHE,
        fast_postgres=True,
        service_environment={
            **{service: keys.environment(user_of(service)) for service in RIGHTS},
            "conversation": keys.environment(user_of("conversation")) | _FAST,
        },
        brokers=brokers,
    ) as running:
        yield running


@pytest.fixture(scope="package")
def broker(stack: Stack) -> SecuredKafka:
    """The stack's."""
    found = stack.server("broker")
    assert isinstance(found, SecuredKafka)
    return found


@pytest.fixture(scope="package")
def start(broker: SecuredKafka) -> set[Decision]:
    """What the authorizer decided until everything was ready, before any test."""
    return broker.decisions()


@pytest.fixture(scope="package", autouse=True)
def _start_comes_first(start: set[Decision]) -> None:
    """Whatever test is the first one."""


@pytest.fixture(autouse=True)
async def nothing_left_open() -> AsyncIterator[None]:
    """Every connection of a test is closed before its event loop is.

    A TLS connection ends with the other side's answer, and the broker keeps one that it has refused for another 0.1 s
    (connection.failed.authentication.delay.ms); aiokafka does not wait for the end of a connection that was refused.
    """
    before = _open_files()
    yield
    async with asyncio.timeout(10.0):
        while _open_files() > before:
            await asyncio.sleep(0.01)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
