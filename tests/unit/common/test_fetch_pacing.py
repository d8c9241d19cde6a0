"""A broker that does not wait for records is waited for; what is asked again is neither encoded nor decoded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest, FetchResponse_v4, FetchResponse_v11
from aiokafka.protocol.metadata import MetadataRequest

from logue_common.fetch_pacing import _PatientClient

MAX_WAIT_SECONDS = 0.1


def _fetch() -> FetchRequest:
    return FetchRequest(100, 1, 2**20, 0, [("requested", [(0, 7, 1024), (1, 3, 1024)])])


def _answer(records: bytes = b"", error: int = 0, end: int = 7) -> FetchResponse_v4:
    return FetchResponse_v4(0, [("requested", [(0, error, end, end, None, records), (1, 0, 3, 3, None, b"")])])


def _answer_of_session(session_id: int) -> FetchResponse_v11:
    partitions = [(0, 0, 7, 7, 0, None, -1, b""), (1, 0, 3, 3, 0, None, -1, b"")]
    return FetchResponse_v11(0, 0, session_id, [("requested", partitions)])


class Broker:
    """Answers as a connection of aiokafka gives it on. The last answer is given again and again."""

    def __init__(self, *answers: Any, seconds: float = 0.0) -> None:
        self.answers = list(answers)
        self.seconds = seconds
        self.asked: list[bytes] = []
        self.decoded = 0

    async def send(self, node_id: int, request: Any) -> Any:
        version = self.answers[0].API_VERSION
        struct = request.prepare({FetchRequest.API_KEY: (0, version)})
        self.asked.append(struct.encode())
        await asyncio.sleep(self.seconds)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return struct.RESPONSE_TYPE.decode(BytesIO(answer.encode()))


async def _ask(broker: Broker, request: FetchRequest | None = None) -> tuple[Any, float]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    answer = await _PatientClient(broker, MAX_WAIT_SECONDS).send(0, request or _fetch())
    return answer, loop.time() - began


async def test_what_comes_meanwhile_is_answered_at_once() -> None:
    broker = Broker(*[_answer()] * 5, _answer(b"records"))
    answer, seconds = await _ask(broker)
    assert answer.topics == _answer(b"records").topics
    assert len(broker.asked) == 6
    assert seconds < MAX_WAIT_SECONDS


async def test_it_waits_as_long_as_the_broker_was_asked_to() -> None:
    broker = Broker(_answer())
    answer, seconds = await _ask(broker)
    assert answer.topics == _answer().topics
    assert seconds >= MAX_WAIT_SECONDS
    assert 2 < len(broker.asked) <= 50


async def test_every_request_is_the_one_that_aiokafka_would_send(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _fetch().prepare({FetchRequest.API_KEY: (0, 4)}).encode()
    built = _counted(monkeypatch, FetchRequest, "build")
    broker = Broker(_answer())
    await _ask(broker)
    assert set(broker.asked) == {expected}
    assert built() == 1


async def test_an_answer_is_decoded_again_when_it_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = _counted(monkeypatch, FetchResponse_v4, "decode")
    answer, _ = await _ask(Broker(*[_answer()] * 3, *[_answer(end=8)] * 3, _answer(b"records", end=9)))
    assert answer.topics == _answer(b"records", end=9).topics
    assert decoded() == 3


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([_answer(error=6)], id="an error that aiokafka must see"),
        pytest.param([_answer_of_session(5)], id="a session, whose next request has another number"),
        pytest.param([FetchResponse_v11(0, 71, 0, [])], id="a refused session"),
        pytest.param([FetchResponse_v11(50, 0, 0, [])], id="a session that is put off"),
    ],
)
async def test_asked_once(answers: list[Any]) -> None:
    broker = Broker(*answers)
    answer, seconds = await _ask(broker)
    assert answer.topics == answers[0].topics
    assert len(broker.asked) == 1
    assert 0.001 < seconds < MAX_WAIT_SECONDS, "but not without a pause"


async def test_a_broker_that_waits_is_not_asked_again() -> None:
    broker = Broker(_answer_of_session(0), seconds=0.02)
    await _ask(broker)
    assert len(broker.asked) == 1


async def test_other_requests_pass() -> None:
    class Client:
        async def send(self, node_id: int, request: Any, group: int) -> Any:
            return node_id, request, group

    request = MetadataRequest([])
    assert await _PatientClient(Client(), MAX_WAIT_SECONDS).send(3, request, group=1) == (3, request, 1)


def _counted(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> Callable[[], int]:
    calls = 0
    real = getattr(owner, name)

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return real(*arguments)

    monkeypatch.setattr(owner, name, staticmethod(counted) if name == "decode" else counted)
    return lambda: calls
