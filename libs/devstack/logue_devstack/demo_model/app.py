"""The demo model's HTTP side: plain ASGI and orjson, because its cost must not show in a benchmark."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
from pydantic import ValidationError

from logue_devstack.demo_model.calls import Calls
from logue_devstack.demo_model.knobs import Knobs, split_directive
from logue_devstack.demo_model.replies import count_words, reply_to, text_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MODEL = "demo"
_TOKENS_PER_SEND = 64
"""Without a gap many tokens share one write; small enough that a long reply does not hold up its neighbours."""


class BadRequestError(Exception):
    """The body is no chat completion request; the text says why."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One call, understood: what to answer and how."""

    id: str
    model: str
    #: The last message of the user.
    message: str
    stream: bool
    include_usage: bool
    tokens: list[str]
    usage: dict[str, int]
    knobs: Knobs
    failing: bool

    @property
    def cut_after(self) -> int | None:
        cut = self.knobs.cut
        return cut if cut is not None and cut <= len(self.tokens) else None


class DemoModel:
    """The ASGI application."""

    def __init__(self, knobs: Knobs | None = None) -> None:
        self.knobs = knobs or Knobs()
        self.calls = Calls()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        match scope["method"], scope["path"]:
            case "POST", "/v1/chat/completions":
                await self._chat(receive, send)
            case "GET", "/v1/models":
                model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "logue"}
                await _send_json(send, 200, {"object": "list", "data": [model]})
            case "GET", "/demo/calls":
                await _send_json(send, 200, self.calls.as_json())
            case "GET", "/demo/bill":
                await _send_json(send, 200, self.calls.bill_as_json())
            case "DELETE", "/demo/calls":
                self.calls.clear()
                await _send_json(send, 200, self.calls.as_json())
            case method, path:
                await _send_json(send, 404, _error(404, f"There is no {method} {path} here."))

    async def _chat(self, receive: Receive, send: Send) -> None:
        try:
            completion = self._understand(await _read_body(receive))
        except BadRequestError as error:
            await _send_json(send, 400, _error(400, str(error)))
            return
        knobs = completion.knobs
        if completion.failing and knobs.fail is not None:
            await _send_json(send, knobs.fail, _error(knobs.fail, "The demo model was told to fail."))
            return
        gone = asyncio.ensure_future(receive())  # completes when the client disconnects
        try:
            if knobs.hang:
                await gone
            elif completion.stream:
                await _stream(completion, send, gone, self.calls)
            else:
                await _answer(completion, send, gone, self.calls)
        finally:
            gone.cancel()

    def _understand(self, body: bytes) -> Completion:
        """Counts the call and decides its answer. Raises BadRequestError."""
        try:
            request = orjson.loads(body)
            messages = request["messages"]
            last = text_of(next(m for m in reversed(messages) if m["role"] == "user"))
            directive, question = split_directive(last)
            knobs = self.knobs.updated(directive).updated(request.get("demo") or {})
        except ValidationError as error:
            raise BadRequestError(f"A knob is out of range: {error.errors()[0]['loc'][0]}.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadRequestError("The body must be JSON with `messages`, one of them of the role `user`.") from error
        except StopIteration as error:
            raise BadRequestError("There is no message of the role `user`.") from error
        calls = self.calls.count(last)
        tokens = reply_to(messages, question, knobs)
        prompt = count_words(messages)
        return Completion(
            id=f"chatcmpl-{sha256(body).hexdigest()[:24]}",
            model=str(request.get("model") or MODEL),
            message=last,
            stream=request.get("stream") is True,
            include_usage=bool((request.get("stream_options") or {}).get("include_usage")),
            tokens=tokens,
            usage={"prompt_tokens": prompt, "completion_tokens": len(tokens), "total_tokens": prompt + len(tokens)},
            knobs=knobs,
            failing=knobs.fail is not None and (knobs.fail_times is None or calls <= knobs.fail_times),
        )


async def _stream(completion: Completion, send: Send, gone: asyncio.Future[Any], calls: Calls) -> None:
    """Sends the tokens when they are due, measured from the start so that delays do not add up."""
    created = int(time.time())
    frame = {"id": completion.id, "object": "chat.completion.chunk", "created": created, "model": completion.model}
    usage_field: dict[str, Any] = {"usage": None} if completion.include_usage else {}

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: %b\n\n" % orjson.dumps(frame | {"choices": [choice]} | usage_field)

    before, after = chunk({"content": "\0"}).split(b'"\\u0000"')
    tokens = completion.tokens if completion.cut_after is None else completion.tokens[: completion.cut_after]
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})

    gap = completion.knobs.gap
    first_due = time.monotonic() + completion.knobs.ttft
    pending = chunk({"role": "assistant", "content": ""})
    sent = 0
    while sent < len(tokens):
        delay = first_due + sent * gap - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        if gone.done():
            return
        due = sent + _TOKENS_PER_SEND if gap == 0 else int((time.monotonic() - first_due) / gap) + 1
        batch = tokens[sent : max(due, sent + 1)]
        sent += len(batch)
        pending += b"".join([before + orjson.dumps(token) + after for token in batch])
        if sent < len(tokens) or completion.cut_after is not None:
            await send({"type": "http.response.body", "body": pending, "more_body": True})
            pending = b""
    if completion.cut_after is not None:
        return  # without the last body part the server closes the connection
    pending += chunk({}, "stop")
    if completion.include_usage:
        pending += b"data: %b\n\n" % orjson.dumps(frame | {"choices": [], "usage": completion.usage})
    calls.bill(completion.message, completion.usage)  # first, so that whatever anyone was told is on the bill
    await send({"type": "http.response.body", "body": pending + b"data: [DONE]\n\n"})


async def _answer(completion: Completion, send: Send, gone: asyncio.Future[Any], calls: Calls) -> None:
    knobs = completion.knobs
    cut = completion.cut_after
    await asyncio.wait([gone], timeout=knobs.ttft + knobs.gap * (len(completion.tokens) if cut is None else cut))
    message = {"role": "assistant", "content": "".join(completion.tokens), "refusal": None}
    body = orjson.dumps(
        {
            "id": completion.id,
            "object": "chat.completion",
            "created": int(time.time()),
            "model": completion.model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": completion.usage,
        }
    )
    await _start(send, 200, len(body))
    if cut is not None:
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        return
    calls.bill(completion.message, completion.usage)
    await send({"type": "http.response.body", "body": body})


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    more = True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    return bytes(body)


async def _send_json(send: Send, status: int, content: object) -> None:
    body = orjson.dumps(content)
    await _start(send, status, len(body))
    await send({"type": "http.response.body", "body": body})


async def _start(send: Send, status: int, length: int) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": status, "headers": headers})


def _error(status: int, message: str) -> dict[str, object]:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}
