"""Waits for records where the broker does not: the stand-in answers an empty fetch at once (noida-db 0.2.3).

aiokafka would ask again at once, 7,000 times a second, and take up to a millisecond for the partitions of an agent each
time. Here the same request is asked again after a pause, for as long as the broker was asked to wait; it is
encoded once, and its answer is decoded when it differs from the one before. Apache Kafka waits, so nothing is repeated.
"""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.fetch import FetchRequest

#: An empty answer that took less was not waited for.
_QUICK_SECONDS = 0.005
#: The pause is this share of what the broker was asked to wait (50 ms: 1,000 requests a second under load), and grows
#: with the time without records: 50 requests a second after two seconds of rest.
_MIN_PAUSE_SHARE = 0.02
_MAX_PAUSE_SECONDS = 0.02
_PAUSE_PER_IDLE_SECOND = 0.01


class _Repeatable(FetchRequest):  # type: ignore[misc]  # aiokafka is untyped
    """A fetch that is asked again unchanged."""

    def __init__(self, request: FetchRequest) -> None:
        self.__dict__.update(request.__dict__)
        self._request = request
        self._struct: Any = None

    def prepare(self, versions: dict[int, tuple[int, int]]) -> Any:
        """Part of aiokafka's protocol."""
        if self._struct is None:
            self._struct = struct = self._request.prepare(versions)
            encoded = struct.encode()
            struct.encode, struct.RESPONSE_TYPE = lambda: encoded, _Answers(struct.RESPONSE_TYPE)
        return self._struct


class _Answers:
    """The answers to one fetch, in the place of their type."""

    def __init__(self, answer_type: Any) -> None:
        self._type = answer_type
        self._encoded = b""
        self._latest: Any = None

    def decode(self, buffer: BytesIO) -> Any:
        """The answer; the very object of before when its bytes are those of before."""
        encoded = buffer.read()
        if encoded != self._encoded:
            self._latest, self._encoded = self._type.decode(BytesIO(encoded)), encoded
        return self._latest


class _PatientClient:
    """The client of a consumer's fetcher, which waits for records on behalf of a broker that does not."""

    def __init__(self, client: Any, max_wait_seconds: float) -> None:
        self._client = client
        self._max_wait = max_wait_seconds
        self._loop = asyncio.get_running_loop()
        self._idle_since = self._loop.time()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: Any, **options: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return await self._client.send(node_id, request, **options)
        repeatable = _Repeatable(request)
        last: Any = None
        is_final = False
        deadline = self._loop.time() + self._max_wait
        while True:
            began = self._loop.time()
            answer = await self._client.send(node_id, repeatable, **options)
            now = self._loop.time()
            if answer is not last:
                if _has_records(answer):
                    self._idle_since = now
                    return answer
                last, is_final = answer, not _may_be_repeated(answer)
            if now - began >= _QUICK_SECONDS:
                return answer
            pause = max(self._max_wait * _MIN_PAUSE_SHARE, (now - self._idle_since) * _PAUSE_PER_IDLE_SECOND)
            await asyncio.sleep(min(pause, _MAX_PAUSE_SECONDS))
            if is_final or self._loop.time() >= deadline:
                return answer


def pace_fetches(consumer: AIOKafkaConsumer) -> None:
    """Keep a started `consumer` from asking without pause where the broker answers empty fetches at once."""
    fetcher = consumer._fetcher  # noqa: SLF001 (no public way; tests/unit/common/test_consumer.py runs on both brokers)
    fetcher._client = _PatientClient(fetcher._client, fetcher._fetch_max_wait_ms / 1000)  # noqa: SLF001


def _has_records(answer: Any) -> bool:
    return any(partition[-1] for _, partitions in answer.topics for partition in partitions)


def _may_be_repeated(answer: Any) -> bool:
    """False in a fetch session, whose requests are numbered, and when there is an error to be seen to.

    Without partitions are answers in a session, and those that refuse one or put it off.
    """
    if not answer.topics or getattr(answer, "session_id", 0) != 0 or getattr(answer, "error_code", 0) != 0:
        return False
    return not any(error_code for _, partitions in answer.topics for _, error_code, *_ in partitions)
