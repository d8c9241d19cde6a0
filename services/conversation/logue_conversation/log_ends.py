"""Asks Kafka where partitions begin and end, and how far a group has committed. Own connections: a fetch that waits for
records would hold these questions up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from logue_common.consumer import stop_consumer
from logue_common.topics import CHAT_REQUESTED
from logue_conversation.errors import LogUnavailableError

T = TypeVar("T")

#: Less than the 2 s that a reader is willing to wait.
_ANSWER_SECONDS = 1.5
_ADMIN_SECONDS = 10.0
_AGAIN_SECONDS = 0.1


class LogEnds:
    """Every question raises LogUnavailableError when Kafka gives no answer in time."""

    def __init__(self, client_options: dict[str, Any]) -> None:
        self._options = client_options
        self._consumer: AIOKafkaConsumer | None = None
        self._starting = asyncio.Lock()
        self._partitions = 0

    async def partitions(self) -> int:
        """How many partitions each of the co-partitioned topics has."""
        if not self._partitions:
            found = await self._ask_admin(lambda admin: admin.describe_topics([CHAT_REQUESTED]), _ANSWER_SECONDS)
            self._partitions = len(found[0]["partitions"]) if found else 0
        if not self._partitions:
            raise LogUnavailableError("The topics do not exist yet; run `python -m logue_common.topics`.")
        return self._partitions

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset that the next record of each partition will get."""
        wanted = list(partitions)
        return await self._answer(lambda consumer: consumer.end_offsets(wanted))

    async def starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset of the first record that each partition still has."""
        wanted = list(partitions)
        return await self._answer(lambda consumer: consumer.beginning_offsets(wanted))

    async def committed(self, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """What `group` has committed; partitions without a commit are left out."""
        wanted = list(partitions)
        found = await self._ask_admin(
            lambda admin: admin.list_consumer_group_offsets(group, partitions=wanted), _ADMIN_SECONDS
        )
        return {partition: meta.offset for partition, meta in found.items() if meta.offset >= 0}

    async def close(self) -> None:
        """Close the connections."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_consumer(consumer)

    async def _ask_admin(self, question: Callable[[AIOKafkaAdminClient], Awaitable[T]], seconds: float) -> T:
        async def ask() -> T:
            admin = AIOKafkaAdminClient(**self._options)
            try:
                await admin.start()
                return await question(admin)
            finally:
                with contextlib.suppress(KafkaError, OSError):
                    await admin.close()

        return await _in_time(ask, seconds)

    async def _answer(self, question: Callable[[AIOKafkaConsumer], Awaitable[T]]) -> T:
        async def ask() -> T:
            return await question(await self._connected())

        return await _in_time(ask, _ANSWER_SECONDS)

    async def _connected(self) -> AIOKafkaConsumer:
        async with self._starting:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(**self._options, client_id="logue-conversation-ends", group_id=None)
                try:
                    await consumer.start()
                except BaseException:
                    await stop_consumer(consumer)
                    raise
                self._consumer = consumer
            return self._consumer


async def _in_time(ask: Callable[[], Awaitable[T]], seconds: float) -> T:
    """The answer, asked for again after an error while there is time: brokers change places."""
    cause: Exception = TimeoutError()
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    return await ask()
                except (KafkaError, OSError) as error:
                    cause = error
                await asyncio.sleep(_AGAIN_SECONDS)
    except TimeoutError:
        raise LogUnavailableError(f"Kafka: {type(cause).__name__}") from cause
