"""Under uvloop, a connection that is gone is an error that aiokafka knows, and nothing waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import uvloop
from aiokafka import AIOKafkaConsumer
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from logue_common.consumer import stop_consumer
from logue_common.service import config


class _OfNoVersion:
    """A request that the broker is too old for."""

    def prepare(self, versions: object) -> None:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _noticed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AIOKafkaConnection, "send", AIOKafkaConnection.send)  # put back afterwards
        config(None, host="127.0.0.1", port=0)  # as every service is served
        yield


def test_a_lost_connection_is_an_error_that_aiokafka_knows_and_metadata_come_again(broker: str) -> None:
    async def lose_the_connection() -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers=broker)
        await consumer.start()
        try:
            client = consumer._client
            assert await client.ready(client.get_random_node())
            connection = next(iter(client._conns.values()))
            with pytest.raises(NotImplementedError):
                connection.send(_OfNoVersion())
            assert connection.connected()
            for connection in list(client._conns.values()):
                connection._read_task.cancel()  # it would notice, only later
                connection._writer.transport.abort()
                await asyncio.sleep(0.05)
                with pytest.raises(KafkaConnectionError):
                    connection.send(MetadataRequest([]))
            assert await asyncio.wait_for(client.force_metadata_update(), 5)
        finally:
            await stop_consumer(consumer)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(lose_the_connection())
