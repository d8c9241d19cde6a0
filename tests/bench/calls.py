"""One question, asked of the model server directly or through Logue, by the same HTTP client, timed token by token."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

TOKENS = 20
EXPECTED = " ".join(f"w{n}" for n in range(1, TOKENS + 1))
_TIMEOUT = aiohttp.ClientTimeout(total=30.0, connect=5.0)


@dataclass(slots=True)
class Answer:
    """What came of one question. Times are in milliseconds since it was sent; an `error` makes them meaningless."""

    first_ms: float = 0.0
    total_ms: float = 0.0
    error: str = ""
    conversation_id: str = ""
    _text: list[str] = field(default_factory=list)
    _sent: float = field(default_factory=time.perf_counter)

    def add(self, text: str) -> None:
        if not text:
            return  # OpenAI's first chunk has a role and no text
        if not self._text:
            self.first_ms = self._elapsed_ms()
        self._text.append(text)

    def end(self, stored: str | None = None) -> None:
        """The reply is over; `stored` is what the server says it was as a whole."""
        self.total_ms = self._elapsed_ms()
        shown = "".join(self._text)
        if shown != EXPECTED or stored not in (None, EXPECTED):
            self.error = f"wrong text: {shown!r}, stored {stored!r}"

    def _elapsed_ms(self) -> float:
        return (time.perf_counter() - self._sent) * 1000


class Model:
    """The model server itself, by the OpenAI protocol."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = f"{url}/v1/chat/completions"

    async def ask(self, question: str) -> Answer:
        body = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": question}]}
        answer = Answer(error="no end")
        try:
            async with self._http.post(self._url, json=body, timeout=_TIMEOUT) as response:
                response.raise_for_status()
                async for event in _events(response):
                    data = event.removeprefix(b"data: ")
                    if data == b"[DONE]":
                        answer.error = ""
                        answer.end()
                    else:
                        answer.add(json.loads(data)["choices"][0]["delta"].get("content", ""))
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError) as error:
            answer.error = repr(error)
        return answer


class Logue:
    """One user at one gateway."""

    def __init__(self, http: aiohttp.ClientSession, url: str, user: str, token: str) -> None:
        self._http = http
        self._url = f"{url}/api/{user}/chat"
        self._headers = {"Authorization": f"Bearer {token}"}

    async def ask(self, question: str, conversation_id: str | None) -> Answer:
        body = {"message": question, "conversation_id": conversation_id, "stream": True}
        answer = Answer(error="no end")
        try:
            async with self._http.post(self._url, json=body, headers=self._headers, timeout=_TIMEOUT) as response:
                if response.status != 200:
                    answer.error = f"{response.status}: {await response.text()}"
                    return answer
                async for event in _events(response):
                    _take(answer, event)
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError) as error:
            answer.error = repr(error)
        return answer


def _take(answer: Answer, event: bytes) -> None:
    """Nothing is disturbed here, so a reply that starts over or is patched up counts as an error, too."""
    fields = dict(line.split(b": ", 1) for line in event.split(b"\n") if b": " in line)
    name = fields.get(b"event", b"").decode()
    data: dict[str, Any] = json.loads(fields[b"data"]) if b"data" in fields else {}
    if name == "message.delta":
        answer.add(data["delta"])
    elif name == "turn.started":
        answer.conversation_id = data["conversation_id"]
    elif name == "message.completed":
        answer.error = ""
        answer.end(data["message"]["content"])
    elif name not in ("", "turn.queued"):
        raise ValueError(f"{name}: {data}")


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The server-sent events of a body, each without its blank line; cheap, since we share the machine's cores."""
    buffer = b""
    async for block in response.content.iter_any():
        *events, buffer = (buffer + block).split(b"\n\n")
        for event in events:
            yield event
