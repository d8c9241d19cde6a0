"""What one way through the log takes by itself: the least that a design with Kafka adds to a turn, which has two."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from tests.bench.measure import summary

from logue_common.consumer import tune_fetches
from logue_common.topics import CHAT_STREAM

_RECORD = b"x" * 300
_WARM_UP = 100
#: As between two questions of one user who asks on.
_PAUSE_SECONDS = 0.02
#: What Logue's readers ask the broker to wait.
_FETCH_WAIT_MS = 50


async def one_way(bootstrap: str, records: int) -> dict[str, Any]:
    """From sending a record until a consumer of the same process has it, one record after the other, in ms."""
    place = TopicPartition(CHAT_STREAM, 0)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, acks="all", linger_ms=0)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, fetch_max_wait_ms=_FETCH_WAIT_MS)
    await producer.start()
    await consumer.start()
    tune_fetches(consumer)
    consumer.assign([place])
    await consumer.seek_to_end(place)
    took: list[float] = []
    for _ in range(_WARM_UP + records):
        began = time.perf_counter()
        await producer.send(place.topic, _RECORD, partition=place.partition)
        await consumer.getone()
        took.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(_PAUSE_SECONDS)
    await producer.stop()
    await consumer.stop()
    return {"records": records, "ms": summary(took[_WARM_UP:])}
