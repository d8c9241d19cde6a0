"""The model client against real HTTP servers: the demo model, and servers that misbehave."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.integration.agent.rig import serving

from logue_agent import model as model_module
from logue_agent.model import Completion, Model, ModelFailedError
from logue_agent.settings import AgentSettings
from logue_agent.trim import message_body
from logue_common.events import Usage
from logue_devstack.demo_model.app import DemoModel
from logue_devstack.demo_model.knobs import Knobs
from logue_devstack.server import free_ports

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]
CHUNK = 'data: {"choices":[{"index":0,"delta":{"content":%s},"finish_reason":null}]}\n\n'
STOP = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = "data: [DONE]\n\n"


def settings(url: str, **changes: Any) -> AgentSettings:
    values: dict[str, Any] = {
        "kafka_bootstrap": "127.0.0.1:1",
        "conversation_url": "http://127.0.0.1:1",
        "internal_token": "a-token-for-tests-only",
        "agent_first_token_seconds": 5.0,
        "agent_idle_seconds": 5.0,
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": "key-for-tests",
    }
    return AgentSettings(**(values | changes))


@asynccontextmanager
async def asking(url: str, **changes: Any) -> AsyncIterator[Model]:
    model = Model(settings(url, **changes))
    try:
        yield model
    finally:
        await model.close()


class Said:
    """What a call came to."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.completion = Completion(model="demo")

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    async def ask(self, model: Model, question: str) -> Said:
        async def say(piece: str) -> None:
            self.pieces.append(piece)

        await model.answer(self.completion, [message_body("user", question)], say)
        return self


async def failure(model: Model, question: str = "Hi", said: Said | None = None) -> ModelFailedError:
    with pytest.raises(ModelFailedError) as caught:
        await (said or Said()).ask(model, question)
    return caught.value


@pytest.fixture
async def demo() -> AsyncIterator[tuple[str, DemoModel]]:
    app = DemoModel(Knobs())
    async with serving(app) as url:
        yield url, app


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "RETRY_PAUSES", (0.01, 0.02))


@asynccontextmanager
async def raw_server(*parts: bytes, head: str = "200 OK", kind: str = "text/event-stream") -> AsyncIterator[str]:
    """Sends these bytes to every request, part by part, and closes the connection."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in request.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(f"HTTP/1.1 {head}\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n".encode())
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_text_usage_model_and_finish_come_from_the_server(demo: tuple[str, DemoModel]) -> None:
    async with asking(demo[0]) as model:
        said = await Said().ask(model, "{{tokens=20}} Hi")
    assert said.text == " ".join(f"w{n}" for n in range(1, 21))
    assert said.completion.usage is not None
    assert said.completion.usage.completion_tokens == 20
    assert (said.completion.model, said.completion.finish_reason) == ("demo", "stop")
    assert said.completion.pieces == len(said.pieces) == 1  # what comes together is said together


async def test_pieces_come_as_they_are_produced(demo: tuple[str, DemoModel]) -> None:
    arrivals: list[float] = []

    async def say(piece: str) -> None:
        arrivals.append(time.monotonic())

    async with asking(demo[0]) as model:
        question = [message_body("user", "{{tokens=5 gap=0.05}} Hi")]
        await model.answer(Completion(model="demo"), question, say)
    assert arrivals[-1] - arrivals[0] == pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize("text", ["é👩\u200d👩\u200d👧 \u200fעברית", "a\u2028b\u2029c\u0085d", "line\r\nline\0end"])
async def test_text_of_all_kinds_comes_back_as_sent(demo: tuple[str, DemoModel], text: str) -> None:
    async with asking(demo[0]) as model:
        said = await Said().ask(model, "{{echo}} " + text)
    assert said.text == text


async def test_a_busy_server_is_asked_again_before_the_first_token(
    demo: tuple[str, DemoModel], quick_retries: None
) -> None:
    async with asking(demo[0]) as model:
        said = await Said().ask(model, "{{tokens=3 fail=503 fail_times=2}} Hi")
    assert said.text == "w1 w2 w3"
    assert demo[1].calls.total == 3


async def test_retries_end(demo: tuple[str, DemoModel], quick_retries: None) -> None:
    async with asking(demo[0]) as model:
        error = await failure(model, "{{fail=500}} Hi")
    assert error.problem.code == "model_error"
    assert demo[1].calls.total == 3


async def test_nothing_is_retried_once_text_was_said(demo: tuple[str, DemoModel], quick_retries: None) -> None:
    said = Said()
    async with asking(demo[0]) as model:
        error = await failure(model, "{{tokens=10 cut=4}} Hi", said)
    assert said.text == "w1 w2 w3 w4"
    assert (error.problem.code, demo[1].calls.total) == ("model_error", 1)


async def test_a_reply_that_is_cut_before_its_first_token_is_retried(
    demo: tuple[str, DemoModel], quick_retries: None
) -> None:
    async with asking(demo[0]) as model:
        error = await failure(model, "{{tokens=10 cut=0}} Hi")
    assert (error.problem.code, demo[1].calls.total) == ("model_error", 3)


@pytest.mark.parametrize(
    ("status", "sentence", "calls"),
    [
        (400, "A shorter conversation may be accepted", 1),
        (401, "OPENAI_API_KEY", 1),
        (403, "OPENAI_API_KEY", 1),
        (404, "Choose another one", 1),
        (429, "Try again in a moment", 3),
        (500, "Try again in a moment", 3),
        (503, "Try again in a moment", 3),
    ],
)
async def test_a_refusal_says_what_to_do(
    demo: tuple[str, DemoModel], quick_retries: None, status: int, sentence: str, calls: int
) -> None:
    async with asking(demo[0]) as model:
        error = await failure(model, f"{{{{fail={status}}}}} Hi")
    assert error.problem.code == "model_error"
    assert error.problem.status == 502
    assert sentence in error.problem.detail
    assert "key-for-tests" not in error.problem.detail
    assert demo[0].removeprefix("http://") not in error.problem.detail
    assert demo[1].calls.total == calls


@pytest.mark.parametrize("retry_after", ["0.05", "-1", "nan", "inf", "soon"])
async def test_the_servers_wish_when_to_retry_is_heeded_within_reason(
    monkeypatch: pytest.MonkeyPatch, retry_after: str
) -> None:
    monkeypatch.setattr(model_module, "RETRY_PAUSES", (0.05,))
    monkeypatch.setattr(model_module, "_MAX_RETRY_AFTER_SECONDS", 0.1)
    async with (
        raw_server(b"{}", head=f"429 Too Many\r\nRetry-After: {retry_after}", kind="application/json") as url,
        asking(url) as model,
    ):
        began = time.monotonic()
        error = await failure(model)
    assert time.monotonic() - began < 1
    assert error.problem.code == "model_error"


async def test_a_server_that_says_nothing_times_out(demo: tuple[str, DemoModel]) -> None:
    async with asking(demo[0], agent_first_token_seconds=0.2) as model:
        began = time.monotonic()
        error = await failure(model, "{{hang}} Hi")
    assert time.monotonic() - began < 1
    assert (error.problem.code, error.problem.status) == ("model_timeout", 504)
    assert demo[1].calls.total == 1


async def test_a_server_that_stops_in_mid_reply_times_out(demo: tuple[str, DemoModel]) -> None:
    said = Said()
    async with asking(demo[0], agent_idle_seconds=0.2) as model:
        error = await failure(model, "{{tokens=5 gap=3}} Hi", said)
    assert (said.text, error.problem.code) == ("w1", "model_timeout")


async def test_a_server_that_only_keeps_the_connection_warm_times_out() -> None:
    """Comments, and empty pieces, are no tokens: they must not extend the wait for the first one for ever."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        try:
            for _ in range(100):
                writer.write(b": still here\n\n")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with asking(url, agent_first_token_seconds=0.4) as model:
            error = await asyncio.wait_for(failure(model), 5)
    assert error.problem.code == "model_timeout"


async def test_a_slow_reader_is_not_the_models_fault(demo: tuple[str, DemoModel]) -> None:
    pieces: list[str] = []

    async def say(piece: str) -> None:
        await asyncio.sleep(0.15)
        pieces.append(piece)

    async with asking(demo[0], agent_idle_seconds=0.1, agent_first_token_seconds=2.0) as model:
        question = [message_body("user", "{{tokens=4}} Hi")]
        await model.answer(Completion(model="demo"), question, say)
    assert "".join(pieces) == "w1 w2 w3 w4"


async def test_no_server_is_a_model_error(quick_retries: None) -> None:
    async with asking(f"http://127.0.0.1:{free_ports(1)[0]}") as model:
        error = await failure(model)
    assert (error.problem.code, error.retryable) == ("model_error", True)
    assert "127.0.0.1" not in error.problem.detail


@pytest.mark.parametrize(
    "body",
    [
        b"data: [DONE]\n\n" * 3,
        b"<!doctype html><html><body>Welcome to nginx!</body></html>",
        b"",
        b"\x00\xff\xfe garbage \r\n\r\n",
        b"data: not json\n\n",
        b"data: []\n\n",
        b'data: "text"\n\n',
        b"data: 1\n\n",
        b'data: {"choices":[1]}\n\n',
        b'data: {"choices":"x"}\n\n',
        b'data: {"choices":[{"delta":1}]}\n\n',
        b'data: {"choices":{}}\n\n',
        b'data: {"usage":{"total_tokens":"many"},"choices":[]}\n\n',
        b'data: {"model":5,"choices":[]}\n\n',
        b"data: " + b"x" * 5_000_000,
        b"data: [DONE]\n\n",
    ],
    ids=lambda body: body[:30].decode("latin-1"),
)
async def test_what_is_no_completion_is_a_model_error(quick_retries: None, body: bytes) -> None:
    async with raw_server(body) as url, asking(url) as model:
        said = Said()
        error = await failure(model, said=said)
    assert error.problem.code == "model_error"
    assert said.pieces == []
    assert b"nginx" not in error.problem.detail.encode()


async def test_a_page_instead_of_a_stream_is_a_model_error(quick_retries: None) -> None:
    async with raw_server(b"<html>Sign in</html>", kind="text/html") as url, asking(url) as model:
        assert (await failure(model)).problem.code == "model_error"


async def test_an_error_in_mid_stream_fails_the_turn_and_says_why(quick_retries: None) -> None:
    error_event = b'data: {"error":{"message":"The engine is overheated","type":"server_error"}}\n\n'
    said = Said()
    parts = ((CHUNK % '"so "').encode(), (CHUNK % '"far"').encode(), error_event)
    async with raw_server(*parts) as url, asking(url) as model:
        error = await failure(model, said=said)
    assert said.text == "so far"
    assert error.problem.code == "model_error"
    assert "The engine is overheated" in error.problem.detail


async def test_an_error_event_of_great_length_is_cut_short(quick_retries: None) -> None:
    event = b"data: " + orjson.dumps({"error": {"message": "x" * 1_000_000}}) + b"\n\n"
    async with raw_server(event) as url, asking(url) as model:
        error = await failure(model)
    assert len(error.problem.detail) < 1000


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
async def test_characters_may_be_split_across_reads(line_end: str) -> None:
    text = "é👍\u2028Ω"
    stream = ": hello\n\n" + CHUNK % orjson.dumps(text).decode() + STOP + DONE
    body = stream.replace("\n", line_end).encode()
    parts = [body[position : position + 1] for position in range(len(body))]
    async with raw_server(*parts) as url, asking(url) as model:
        said = await Said().ask(model, "Hi")
    assert said.text == text


async def test_fields_that_a_server_leaves_out_or_adds_do_no_harm() -> None:
    stream = (
        'data: {"choices":[{"delta":{"role":"assistant","content":null}}]}\n\n'
        'data: {"choices":[{"delta":null}]}\n\n'
        'data: {"choices":[{"delta":{"content":""}}],"usage":null,"x_new":[]}\n\n'
        'data:{"choices":[{"delta":{"content":"a"}}]}\n\n'
        "event: ping\n\n"
        'data: {"choices":[{"delta":{"content":"b"},"finish_reason":"length"}]}\n\n'
        'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"details":{}}}\n\n'
    )
    async with raw_server(stream.encode()) as url, asking(url) as model:
        said = await Said().ask(model, "Hi")
    assert said.text == "ab"
    assert said.completion.finish_reason == "length"
    assert said.completion.usage == Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to count open files")  # noqa: PTH112
async def test_cancelled_calls_leave_no_connection_behind(demo: tuple[str, DemoModel]) -> None:
    async with asking(demo[0]) as model:
        await Said().ask(model, "{{tokens=1}} warm")
        before = _open_files()
        for directive in ("{{hang}}", "{{tokens=100 gap=0.05}}", "{{ttft=5}}"):
            calls = [asyncio.create_task(Said().ask(model, f"{directive} {n}")) for n in range(40)]
            await asyncio.sleep(0.3)
            for call in calls:
                call.cancel()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
        said = await Said().ask(model, "{{tokens=3}} Hi")
        assert said.text == "w1 w2 w3"
        gc.collect()
        async with asyncio.timeout(5):
            while _open_files() > before + 5:
                await asyncio.sleep(0.05)


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = (CHUNK % '"by proxy"' + STOP + DONE).encode()
    async with raw_server(stream) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", "elsewhere.example")
        async with asking("http://model.example") as model:
            assert (await Said().ask(model, "Hi")).text == "by proxy"


async def test_a_proxy_is_not_told_the_key(monkeypatch: pytest.MonkeyPatch, quick_retries: None) -> None:
    heads: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")  # as some write it
        monkeypatch.setenv("no_proxy", "elsewhere.example")
        async with asking("https://model.example") as model:
            assert (await failure(model)).problem.code == "model_error"
    assert heads[0].startswith(b"CONNECT model.example:443 ")
    assert not any(b"key-for-tests" in head for head in heads)


async def test_a_redirect_is_a_refusal(quick_retries: None) -> None:
    async with (
        raw_server(b"", head="307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/") as url,
        asking(url) as model,
    ):
        error = await failure(model)
    assert "OPENAI_BASE_URL" in error.problem.detail
    assert not error.retryable


async def test_a_document_instead_of_a_stream_is_not_asked_for_again() -> None:
    async with raw_server(b'{"choices":[]}', kind="application/json") as url, asking(url) as model:
        error = await failure(model)
    assert "OPENAI_BASE_URL" in error.problem.detail
    assert not error.retryable


async def test_a_key_may_end_in_a_line_end_and_hold_no_other() -> None:
    assert settings("http://x", OPENAI_API_KEY="key\n").openai_api_key.get_secret_value() == "key"
    with pytest.raises(ValueError, match="printable"):
        settings("http://x", OPENAI_API_KEY="two\nlines")


async def test_two_hundred_calls_run_side_by_side(demo: tuple[str, DemoModel]) -> None:
    """No pool of connections may queue them up."""
    async with asking(demo[0]) as model:
        began = time.monotonic()
        said = await asyncio.gather(*(Said().ask(model, f"{{{{tokens=2 ttft=1}}}} {n}") for n in range(200)))
        assert time.monotonic() - began < 3
    assert {one.text for one in said} == {"w1 w2"}
