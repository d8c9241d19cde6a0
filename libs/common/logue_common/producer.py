"""A Kafka producer that recovers by itself: from brokers that are away, and from its own fatal errors.

An aiokafka producer that met OutOfOrderSequenceNumber or was fenced stays broken, and one whose request timed out may
still deliver it after an outage. Both are cured alike: drop that producer, with all that it still holds, and start
another one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, UnknownTopicOrPartitionError
from aiokafka.structs import RecordMetadata

from logue_common.abandon import abandon
from logue_common.errors import LogueError
from logue_common.events import Headers
from logue_common.topics import MAX_RECORD_BYTES, partition_of

#: Between attempts to reach the brokers.
RECONNECT_SECONDS = 0.5
#: aiokafka's default of 16 KiB splits a burst of frames into many requests.
_BATCH_BYTES = 256 * 1024
#: Rounds of the event loop from a record in the buffer to its request on the connection.
_ROUNDS_OF_A_SEND = 3
#: How long `close` waits for acknowledgements.
_FLUSH_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class NotSentError(LogueError):
    """The record was not handed to a broker, and never will be."""


class DeliveryUnknownError(LogueError):
    """The broker did not confirm the record in time: it may or may not be in the log."""


class Producer:
    """Idempotent, acks=all. `start` returns at once; connecting goes on in the background until it succeeds."""

    def __init__(self, client_options: dict[str, Any], *, client_id: str) -> None:
        self._options = client_options
        self._client_id = client_id
        self._current: AIOKafkaProducer | None = None
        self._ready = asyncio.Event()
        self._connecting: asyncio.Task[None] | None = None
        self._dropping: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def is_connected(self) -> bool:
        """True while a producer is up, as far as is known."""
        return self._current is not None

    def start(self) -> None:
        """Begin to connect, unless that was begun."""
        if self._connecting is None and self._current is None and not self._closed:
            self._connecting = asyncio.create_task(self._connect(), name=f"{self._client_id}-connect")

    async def wait_connected(self, timeout_seconds: float) -> bool:
        """True as soon as a producer is up; False when none is after `timeout_seconds`."""
        if not self._ready.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ready.wait(), timeout_seconds)
        return self._ready.is_set()

    async def send(
        self,
        topic: str,
        *,
        key: str,
        value: bytes,
        headers: Headers,
        partition: int | None = None,
        timeout_seconds: float = 5.0,
    ) -> RecordMetadata:
        """Send one record and wait for the broker's acknowledgement.

        Raises NotSentError or DeliveryUnknownError; after the latter this object has begun to replace its producer, so
        that the record is not sent later than the broker may already have received it.
        """
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        if not await self.wait_connected(timeout_seconds):
            raise NotSentError("Kafka cannot be reached.")
        producer = self._current
        try:
            async with asyncio.timeout_at(deadline):
                delivery = await self.enqueue(topic, key=key, value=value, headers=headers, partition=partition)
        except TimeoutError as error:
            raise NotSentError(f"Kafka took no record for {timeout_seconds} s.") from error
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(delivery)
        except TimeoutError as error:
            self._drop(producer)
            raise DeliveryUnknownError(f"Kafka did not confirm the record within {timeout_seconds} s.") from error
        except KafkaError as error:
            self._drop(producer)
            raise DeliveryUnknownError(f"Kafka refused the record: {type(error).__name__}.") from error

    async def enqueue(
        self, topic: str, *, key: str, value: bytes, headers: Headers, partition: int | None = None
    ) -> asyncio.Future[RecordMetadata]:
        """Hand one record over and return the future of its acknowledgement. Keeps order within a partition.

        Waits only when the batch of that partition is full. A delivery that fails replaces the producer. Raises
        NotSentError when no producer is up, or this one does not take the record.
        """
        producer = self._current
        if producer is None:
            raise NotSentError("Kafka cannot be reached.")
        try:
            delivery: asyncio.Future[RecordMetadata] = await producer.send(
                topic, value=value, key=key.encode(), partition=partition, headers=headers
            )
        except AssertionError as error:  # aiokafka asserts that the partition exists
            raise NotSentError(f"The topic {topic} has no partition {partition}.") from error
        except KafkaError as error:
            if not isinstance(error, MessageSizeTooLargeError | UnknownTopicOrPartitionError):
                self._drop(producer)  # it does not work any more
            raise NotSentError(f"Kafka did not take the record: {type(error).__name__}.") from error
        delivery.add_done_callback(lambda done: self._watch(producer, done))
        return delivery

    @staticmethod
    async def let_go() -> None:
        """Let what was enqueued be written before the caller goes on, unless an earlier request is under way.

        For what somebody waits for, when the caller has more to do than to wait: aiokafka's sender only writes when
        others let it, so often (test_producer.py holds it to that).
        """
        for _ in range(_ROUNDS_OF_A_SEND):
            await asyncio.sleep(0)

    async def send_all(
        self, topic: str, records: Iterable[tuple[str, bytes, Headers]], *, timeout_seconds: float = 5.0
    ) -> None:
        """Send records (key, value, headers) at a quarter of the cost of single ones; returns when the broker has them.

        Keeps order within a partition. Raises NotSentError when no producer is up, and DeliveryUnknownError when some
        may have been sent, and none of the others will be.
        """
        producer = self._current
        if producer is None:
            raise NotSentError("Kafka cannot be reached.")
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        try:
            async with asyncio.timeout_at(deadline):
                partitions = len(await producer.partitions_for(topic))
        except (TimeoutError, KafkaError) as error:
            raise NotSentError(f"Nothing is known of the topic {topic}: {type(error).__name__}.") from error
        sent: list[asyncio.Future[RecordMetadata]] = []
        try:
            async with asyncio.timeout_at(deadline):
                for partition, batch in _batched(producer, records, partitions):
                    sent.append(await producer.send_batch(batch, topic, partition=partition))
                    sent[-1].add_done_callback(_taken)
                await asyncio.gather(*sent)
        except (TimeoutError, KafkaError, AssertionError, TypeError) as error:  # the last two: the topic is gone
            self._drop(producer)
            raise DeliveryUnknownError(f"Kafka did not confirm the records: {type(error).__name__}.") from error

    async def flush(self, timeout_seconds: float) -> None:
        """Wait until everything enqueued is acknowledged, at most `timeout_seconds`."""
        if self._current is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._current.flush(), timeout_seconds)

    def replace(self) -> None:
        """Drop the producer with all that it still holds, so that none of it is sent later, and start another one."""
        self._drop(self._current)

    async def close(self) -> None:
        """Flush for a moment, then let go of everything."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._connecting
        await self.flush(_FLUSH_SECONDS)
        if self._current is not None:
            self._drop(self._current)
        if self._dropping:
            await asyncio.wait(set(self._dropping))

    async def _connect(self) -> None:
        try:
            while not self._closed:
                producer = AIOKafkaProducer(
                    **self._options,
                    client_id=self._client_id,
                    enable_idempotence=True,
                    acks="all",
                    linger_ms=0,
                    max_batch_size=_BATCH_BYTES,
                    max_request_size=MAX_RECORD_BYTES,
                    partitioner=lambda key, partitions, _: partition_of(key.decode(), len(partitions)),
                )
                try:
                    await producer.start()
                except (KafkaError, OSError) as error:
                    _log.warning("kafka_unreachable", client=self._client_id, cause=type(error).__name__)
                    await abandon(producer)
                    await asyncio.sleep(RECONNECT_SECONDS)
                except asyncio.CancelledError:
                    await abandon(producer)
                    raise
                else:
                    self._current = producer
                    self._ready.set()
                    return
        finally:
            self._connecting = None

    def _watch(self, producer: AIOKafkaProducer, delivery: asyncio.Future[RecordMetadata]) -> None:
        if not delivery.cancelled() and delivery.exception() is not None:
            self._drop(producer)

    def _drop(self, producer: AIOKafkaProducer | None) -> None:
        if producer is None or producer is not self._current:
            return
        self._current = None
        self._ready.clear()
        if not self._closed:
            _log.warning("kafka_producer_replaced", client=self._client_id)
        task = asyncio.create_task(abandon(producer))
        self._dropping.add(task)
        task.add_done_callback(self._dropping.discard)
        self.start()


def _batched(
    producer: AIOKafkaProducer, records: Iterable[tuple[str, bytes, Headers]], partitions: int
) -> Iterator[tuple[int, Any]]:
    """The records in batches of their partitions, each in its order."""
    open_batches: dict[int, Any] = {}
    for key, value, headers in records:
        partition = partition_of(key, partitions)
        record = {"timestamp": None, "key": key.encode(), "value": value, "headers": headers}
        if partition not in open_batches:
            open_batches[partition] = producer.create_batch()
        if open_batches[partition].append(**record) is None:  # it is full
            yield partition, open_batches[partition]
            open_batches[partition] = producer.create_batch()
            open_batches[partition].append(**record)
    yield from open_batches.items()


def _taken(delivery: asyncio.Future[RecordMetadata]) -> None:
    """Its error is known from another one; asyncio would complain of an exception that nobody took."""
    if not delivery.cancelled():
        delivery.exception()
