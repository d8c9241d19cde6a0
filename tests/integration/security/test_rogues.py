"""Whoever has got hold of one service's password, or of none, gets no further than that."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from tests.integration.security import attempts
from tests.integration.security.attempts import connected
from tests.integration.security.authority import Authority
from tests.integration.security.secured import ADMIN, SecuredKafka

from logue_common.producer import NotSentError, Producer
from logue_common.rights import CONVERSATION_GROUP
from logue_common.topics import CHAT_PROGRESSED, CHAT_REPLIED, CHAT_REQUESTED, CHAT_STREAM, CONVERSATION_CHANGED
from logue_devstack.stack import Stack

pytestmark = pytest.mark.apache

_GATEWAY, _AGENT, _CONVERSATION = "logue-gateway", "logue-agent", "logue-conversation"
_SECONDS = 10.0


@pytest.mark.parametrize("topic", [CHAT_REPLIED, CHAT_PROGRESSED, CHAT_STREAM, CONVERSATION_CHANGED])
@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_gateway_cannot_answer_turns(broker: SecuredKafka, topic: str, idempotent: bool) -> None:
    before = await _ends(broker, topic)
    async with _producing(broker, _GATEWAY, enable_idempotence=idempotent) as producer:
        with pytest.raises(TopicAuthorizationFailedError):
            await asyncio.wait_for(producer.send_and_wait(topic, b"forged", key=b"conversation"), _SECONDS)
    assert await _ends(broker, topic) == before


async def test_our_own_producer_says_so_at_once(broker: SecuredKafka) -> None:
    producer = Producer(broker.settings_of(_GATEWAY).client_options(), client_id="rogue")
    producer.start()
    try:
        with pytest.raises(NotSentError, match="TopicAuthorizationFailed"):
            await producer.send(CHAT_REPLIED, key="conversation", value=b"forged", headers=[])
    finally:
        await producer.close()


@pytest.mark.parametrize(
    ("user", "topic"),
    [(_GATEWAY, CHAT_REPLIED), (_AGENT, CONVERSATION_CHANGED), (_CONVERSATION, CHAT_STREAM)],
)
async def test_nobody_reads_what_is_not_meant_for_them(broker: SecuredKafka, user: str, topic: str) -> None:
    """A client library is not even told where the topic is; one that knows is refused."""
    async with _consuming(broker, user) as consumer:
        assert topic not in await consumer.topics()
    async with connected(broker.settings_of(user)) as client:
        assert not await client.is_allowed(attempts.read, topic)


async def test_who_may_write_a_topic_may_not_therefore_read_it(broker: SecuredKafka) -> None:
    async with _consuming(broker, _GATEWAY) as consumer:
        consumer.assign([TopicPartition(CHAT_REQUESTED, 0)])
        with pytest.raises(TopicAuthorizationFailedError):
            await asyncio.wait_for(consumer.getone(), _SECONDS)


async def test_an_agent_cannot_take_partitions_from_the_writer(broker: SecuredKafka) -> None:
    async with _consuming(broker, _AGENT, group_id=CONVERSATION_GROUP) as consumer:
        consumer.subscribe([CHAT_REQUESTED])
        with pytest.raises(GroupAuthorizationFailedError):
            await asyncio.wait_for(consumer.getone(), _SECONDS)


async def test_an_agent_cannot_move_the_positions_of_the_writer(broker: SecuredKafka) -> None:
    first = TopicPartition(CHAT_REQUESTED, 0)
    async with _consuming(broker, _AGENT, group_id=CONVERSATION_GROUP) as consumer:
        consumer.assign([first])
        with pytest.raises(GroupAuthorizationFailedError):
            await asyncio.wait_for(consumer.commit({first: 0}), _SECONDS)


@pytest.fixture(scope="module")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("others") / "authority.pem"
    Authority(path)
    return path


def _plain_text(options: dict[str, Any]) -> dict[str, Any]:
    return {"bootstrap_servers": options["bootstrap_servers"]}


def _no_credentials(options: dict[str, Any]) -> dict[str, Any]:
    return _plain_text(options) | {"security_protocol": "SSL", "ssl_context": options["ssl_context"]}


def _wrong_password(options: dict[str, Any]) -> dict[str, Any]:
    return options | {"sasl_plain_password": "wrong"}


def _unknown_user(options: dict[str, Any]) -> dict[str, Any]:
    return options | {"sasl_plain_username": "nobody"}


def _password_in_the_clear(options: dict[str, Any]) -> dict[str, Any]:
    return options | {"sasl_mechanism": "PLAIN"}


def _no_authority_of_ours(options: dict[str, Any]) -> dict[str, Any]:
    return options | {"ssl_context": ssl.create_default_context()}


@pytest.mark.parametrize(
    "change",
    [_plain_text, _no_credentials, _wrong_password, _unknown_user, _password_in_the_clear, _no_authority_of_ours],
)
async def test_without_the_right_credentials_nothing_is_answered(broker: SecuredKafka, change: Any) -> None:
    admin = AIOKafkaAdminClient(**change(broker.settings_of(_GATEWAY).client_options()) | {"request_timeout_ms": 3000})
    try:
        with pytest.raises(KafkaConnectionError):
            await asyncio.wait_for(admin.start(), _SECONDS)
    finally:
        await admin.close()


async def test_a_service_with_a_wrong_password_says_so(broker: SecuredKafka, caplog: pytest.LogCaptureFixture) -> None:
    producer = Producer(_wrong_password(broker.settings_of(_GATEWAY).client_options()), client_id="mistaken")
    producer.start()
    try:
        assert not await producer.wait_connected(1.0)
    finally:
        await producer.close()
    assert "SaslAuthenticationFailed" in caplog.text


async def test_a_broker_that_another_authority_vouches_for_is_not_talked_to(
    broker: SecuredKafka, other_authority: Path
) -> None:
    options = broker.settings_of(_GATEWAY).client_options()
    options["ssl_context"] = ssl.create_default_context(cafile=str(other_authority))
    admin = AIOKafkaAdminClient(**options)
    try:
        with pytest.raises(KafkaConnectionError):
            await asyncio.wait_for(admin.start(), _SECONDS)
    finally:
        await admin.close()


@pytest.mark.parametrize("listener", ["BROKERS", "CONTROLLER"])
async def test_the_brokers_own_listeners_want_a_certificate(broker: SecuredKafka, listener: str) -> None:
    """TLS 1.3 tells a client without one after its side of the handshake is over: no answer is what shows it."""
    port = broker.ports[listener]
    context = broker.settings_of(_GATEWAY).client_options()["ssl_context"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        writer.write(b"\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff")  # ApiVersions, version 0
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), _SECONDS)
    finally:
        writer.close()


def test_the_services_never_noticed(stack: Stack, broker: SecuredKafka) -> None:
    """None of the above kept anybody from their work."""
    assert all(stack.server(name).is_ready() for name in stack.names)


@asynccontextmanager
async def _producing(broker: SecuredKafka, user: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(**broker.settings_of(user).client_options(), acks="all", **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def _consuming(broker: SecuredKafka, user: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **broker.settings_of(user).client_options(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **options,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        with contextlib.suppress(KafkaError):  # it may tell once more what it was refused
            await consumer.stop()


async def _ends(broker: SecuredKafka, topic: str) -> dict[TopicPartition, int]:
    async with _consuming(broker, ADMIN) as consumer:
        partitions = [TopicPartition(topic, number) for number in range(4)]
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        return ends
