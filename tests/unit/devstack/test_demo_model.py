"""The demo model as the official client sees it."""

from __future__ import annotations

import asyncio
import json
import time
from hashlib import sha256
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI


async def ask(model: AsyncOpenAI, *texts: str, **knobs: Any) -> str:
    """A reply that was not streamed; texts alternate between user and assistant."""
    extra = {"demo": knobs} if knobs else None
    completion = await model.chat.completions.create(model="demo", messages=messages_of(*texts), extra_body=extra)
    return completion.choices[0].message.content or ""


async def stream(model: AsyncOpenAI, *texts: str, **knobs: Any) -> list[str]:
    """The pieces of a streamed reply."""
    extra = {"demo": knobs} if knobs else None
    chunks = await model.chat.completions.create(
        model="demo", messages=messages_of(*texts), stream=True, extra_body=extra
    )
    return [c.choices[0].delta.content async for c in chunks if c.choices and c.choices[0].delta.content]


def messages_of(*texts: str) -> list[Any]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


async def test_reply_quotes_the_last_user_message_and_is_the_same_each_time(model: AsyncOpenAI) -> None:
    reply = await ask(model, "Where is the library?")
    assert "Where is the library?" in reply
    assert await ask(model, "Where is the library?") == reply
    assert await ask(model, "Where is the station?") != reply


async def test_streamed_and_plain_replies_are_equal(model: AsyncOpenAI) -> None:
    texts = ("first", "an answer", "second")
    pieces = await stream(model, *texts)
    assert len(pieces) > 10
    assert "".join(pieces) == await ask(model, *texts)


async def test_stream_ends_with_a_finish_reason_and_usage_when_asked_for(model: AsyncOpenAI) -> None:
    chunks = await model.chat.completions.create(
        model="demo",
        messages=messages_of("{{tokens=7}} one two"),
        stream=True,
        stream_options={"include_usage": True},
    )
    seen = [chunk async for chunk in chunks]
    assert seen[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in seen if c.choices][-1] == "stop"
    assert seen[-1].usage is not None
    assert (seen[-1].usage.prompt_tokens, seen[-1].usage.completion_tokens, seen[-1].usage.total_tokens) == (3, 7, 10)
    assert all(chunk.usage is None for chunk in seen[:-1])


@pytest.mark.parametrize("count", [0, 1, 5, 1000])
async def test_tokens_gives_numbered_words(model: AsyncOpenAI, count: int) -> None:
    expected = " ".join(f"w{n}" for n in range(1, count + 1))
    assert await ask(model, f"{{{{tokens={count}}}}}") == expected
    pieces = await stream(model, "anything", tokens=count)
    assert ("".join(pieces), len(pieces)) == (expected, count)


async def test_gap_and_ttft_set_the_pace(model: AsyncOpenAI) -> None:
    began = time.monotonic()
    chunks = await model.chat.completions.create(
        model="demo", messages=messages_of("{{tokens=5 gap=0.05 ttft=0.2}}"), stream=True
    )
    at = [time.monotonic() - began async for c in chunks if c.choices and c.choices[0].delta.content]
    assert at[0] >= 0.2
    assert at[-1] >= 0.2 + 4 * 0.05
    assert at[-1] < 1.5


async def test_fail_answers_with_that_status(model: AsyncOpenAI) -> None:
    with pytest.raises(openai.RateLimitError):
        await ask(model, "{{fail=429}} please")
    with pytest.raises(openai.InternalServerError):
        await stream(model, "please", fail=503)


async def test_fail_times_fails_only_the_first_calls_of_the_same_message(model: AsyncOpenAI) -> None:
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            await ask(model, "{{fail=500 fail_times=2 tokens=1}} a")
    assert await ask(model, "{{fail=500 fail_times=2 tokens=1}} a") == "w1"
    with pytest.raises(openai.InternalServerError):
        await ask(model, "{{fail=500 fail_times=2 tokens=1}} b")


@pytest.mark.parametrize("count", [0, 3, 10])
async def test_cut_breaks_the_connection_after_that_many_tokens(http: httpx.AsyncClient, count: int) -> None:
    body = {"messages": messages_of(f"{{{{tokens=10 cut={count}}}}}"), "stream": True}
    received = ""

    async def read() -> None:
        nonlocal received
        async with http.stream("POST", "/v1/chat/completions", json=body) as response:
            async for part in response.aiter_text():
                received += part

    with pytest.raises(httpx.RemoteProtocolError):
        await read()
    assert received.count('"content":"w') + received.count('"content":" w') == count
    assert '"stop"' not in received


async def test_cut_breaks_a_plain_reply_too(model: AsyncOpenAI) -> None:
    with pytest.raises(openai.APIConnectionError):
        await ask(model, "{{tokens=10 cut=3}}")


async def test_hang_never_answers(model: AsyncOpenAI) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(model, "hello", hang=True), 0.3)


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        " leading and trailing \r\n",
        "مرحبا 👩‍👩‍👧 é\u2028\u0085",
        "a\x00b",
        "x" * 32_000,
        "{{ template }} {{}}",
        "\n" * 50,
    ],
)
async def test_echo_returns_the_text_exactly(model: AsyncOpenAI, text: str) -> None:
    assert "".join(await stream(model, text, echo=True)) == text
    assert "".join(await stream(model, "{{echo}} " + text)) == text
    assert await ask(model, text, echo=True) == text


async def test_context_tells_what_the_model_was_given(model: AsyncOpenAI) -> None:
    reply = json.loads(await ask(model, "one", "two", "{{context}} three"))
    assert reply == [
        {"role": role, "sha256": sha256(text.encode()).hexdigest()}
        for role, text in (("user", "one"), ("assistant", "two"), ("user", "{{context}} three"))
    ]


async def test_content_parts_are_read_as_text(model: AsyncOpenAI) -> None:
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": "{{echo}} a"}, {"type": "text", "text": "b"}]}]
    completion = await model.chat.completions.create(model="x", messages=parts)
    assert (completion.choices[0].message.content, completion.model) == ("ab", "x")


async def test_calls_are_counted_by_last_message_until_reset(model: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    await ask(model, "a")
    await stream(model, "b")
    await ask(model, "x", "y", "a")
    assert (await http.get("/demo/calls")).json() == {"total": 3, "by_message": {"b": 1, "a": 2}}
    assert (await http.delete("/demo/calls")).json() == {"total": 0, "by_message": {}}


async def test_calls_that_were_generated_to_the_end_are_billed(model: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    began = (await http.get("/demo/bill")).json()["since"]
    await ask(model, "{{tokens=2}} plain")
    for _ in range(2):
        await stream(model, "x", "y", "{{tokens=3}} streamed")
    for knobs in ("fail=500", "cut=1 tokens=3"):
        with pytest.raises(openai.APIError):
            await ask(model, f"{{{{{knobs}}}}} not to the end")
    body = {"messages": messages_of("{{tokens=3 gap=0.2}} left"), "stream": True}
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        await anext(response.aiter_bytes())
    await asyncio.sleep(0.7)
    bill = (await http.get("/demo/bill")).json()
    assert bill["since"] == began <= time.time()
    assert bill["by_message"] == {
        "{{tokens=2}} plain": [usage(2, 2)],
        "{{tokens=3}} streamed": [usage(4, 3), usage(4, 3)],
    }
    await http.delete("/demo/calls")
    bill = (await http.get("/demo/bill")).json()
    assert bill["by_message"] == {}
    assert bill["since"] > began


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def test_models_are_listed(model: AsyncOpenAI) -> None:
    assert [m.id async for m in model.models.list()] == ["demo"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"messages": []}',
        b'{"messages": [{"role": "system", "content": "x"}]}',
        b'{"messages": "x"}',
    ],
)
async def test_malformed_request_is_refused(http: httpx.AsyncClient, body: bytes) -> None:
    response = await http.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_knob_out_of_range_is_refused(model: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="ttft"):
        await ask(model, "hello", ttft=-1)
