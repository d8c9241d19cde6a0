"""Calls a model server by the OpenAI protocol and hands its text on as it comes.

On aiohttp alone: what a streamed completion takes of that protocol is one POST and its event stream (ADR 0017 has what
the openai package cost instead).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson

from logue_agent import metrics
from logue_agent.model_stream import EventLines, LineTooLongError
from logue_agent.settings import AgentSettings
from logue_common.errors import Problem, problem
from logue_common.events import Usage

#: Takes a piece of the reply: what came in one read.
Say = Callable[[str], Awaitable[None]]

#: Pauses before the second and the third try, in seconds. Retries end with the first token.
RETRY_PAUSES = (0.25, 1.0)
_MAX_RETRY_AFTER_SECONDS = 5.0
_CONNECT_SECONDS = 5.0
#: Of a model server's own error text.
_MAX_QUOTED_CHARACTERS = 300
_RETRYABLE_STATUS = frozenset({408, 409, 429})
_TOO_MUCH_STATUS = frozenset({400, 413, 422})
#: A longer reply fails: as JSON, six bytes for a character at worst, it would not fit into a record of the log.
MAX_REPLY_CHARACTERS = 512 * 1024
_MAX_NAME_CHARACTERS = 200
#: What JSON's readers agree on (RFC 8259, 6).
_MAX_TOKENS = 2**53


class ModelFailedError(Exception):
    """The model gave no complete reply. `problem` says so to the client; `retryable`: another try may help."""

    def __init__(self, cause: Problem, *, retryable: bool, retry_after_seconds: float | None = None) -> None:
        super().__init__(cause.detail)
        self.problem = cause
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds


@dataclass(slots=True)
class Completion:
    """What is known of a reply beside its text, filled in while it streams."""

    model: str
    usage: Usage | None = None
    finish_reason: str | None = None
    pieces: int = 0
    characters: int = 0


class Model:
    """A model server."""

    def __init__(self, settings: AgentSettings) -> None:
        self._first_token_seconds = settings.agent_first_token_seconds
        self._idle_seconds = settings.agent_idle_seconds
        self._url = f"{settings.openai_base_url.rstrip('/')}/chat/completions"
        # Of each request, not of the session: aiohttp tells a proxy the session's, the key included.
        self._headers = {
            "Authorization": f"Bearer {settings.openai_api_key.get_secret_value()}",
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",
        }
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),  # reads are timed below
            proxy=_proxy_of(self._url),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def answer(self, completion: Completion, messages: list[bytes], say: Say) -> None:
        """Hand the reply to `messages` (JSON objects) to `say`, piece by piece.

        Raises ModelFailedError; retries only before the first piece.
        """
        asked_for = completion.model  # the server may report another name, which it need not understand
        for pause in (*RETRY_PAUSES, None):
            try:
                await self._stream(completion, asked_for, messages, say)
            except ModelFailedError as error:
                if completion.pieces or pause is None or not error.retryable:
                    raise
                metrics.MODEL_RETRIES.inc()
                wait = error.retry_after_seconds if error.retry_after_seconds is not None else pause
                await asyncio.sleep(min(wait, _MAX_RETRY_AFTER_SECONDS))
            else:
                return

    async def _stream(self, completion: Completion, model: str, messages: list[bytes], say: Say) -> None:
        lines = EventLines()
        loop = asyncio.get_running_loop()
        heard_at = loop.time()  # the latest event; comments that keep a connection warm are none
        try:
            async with AsyncExitStack() as stack:
                body = _request_body(model, messages)
                call = self._session.post(self._url, data=body, headers=self._headers, allow_redirects=False)
                async with asyncio.timeout_at(heard_at + self._first_token_seconds):
                    response = await stack.enter_async_context(call)
                if response.status >= 300:
                    raise _refused(response)
                if response.content_type == "application/json":
                    raise _no_completion()
                while True:
                    patience = self._idle_seconds if completion.pieces else self._first_token_seconds
                    async with asyncio.timeout_at(
                        heard_at + patience
                    ):  # around the read alone: readers may be slow, too
                        block = await response.content.readany()
                    if not block:
                        break
                    if await _take(completion, lines.feed(block), say):
                        heard_at = loop.time()
        except (aiohttp.ClientError, LineTooLongError) as error:  # first: some of aiohttp's are TimeoutErrors, too
            detail = "The model server cannot be reached or broke off. Try again in a moment."
            raise ModelFailedError(problem("model_error", detail), retryable=True) from error
        except TimeoutError as error:
            detail = "The model did not answer in time. Try again, or ask for less at once."
            raise ModelFailedError(problem("model_timeout", detail), retryable=False) from error
        if completion.finish_reason is None:
            detail = "The model server ended the reply halfway. Try again in a moment."
            raise ModelFailedError(problem("model_error", detail), retryable=True)


def _request_body(model: str, messages: list[bytes]) -> bytes:
    """Messages are JSON already: those of a long conversation are not made anew for each of its turns."""
    body = b'{"model":%b,"stream":true,"stream_options":{"include_usage":true},"messages":[%b]}'
    return body % (orjson.dumps(model), b",".join(messages))


def _proxy_of(url: str) -> str | None:
    """The proxy that the environment names for `url` (HTTPS_PROXY, …); aiohttp would look there for every request."""
    target = urlsplit(url)
    host = target.hostname or ""
    if proxy_bypass(host if target.port is None else f"{host}:{target.port}"):
        return None
    proxy = getproxies().get(target.scheme)
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


async def _take(completion: Completion, events: Iterable[bytes], say: Say) -> bool:
    """Say the text of events that came together as one piece, also when one is wrong. False: there were none."""
    text: list[str] = []
    heard = False
    try:
        for data in events:
            heard = True
            if piece := _read_chunk(completion, data):
                text.append(piece)
                completion.characters += len(piece)
                if completion.characters > MAX_REPLY_CHARACTERS:
                    raise _too_long()
    finally:
        if text:
            completion.pieces += 1
            await say("".join(text))
    return heard


def _read_chunk(completion: Completion, data: bytes) -> str | None:
    """The text in one event of the stream; usage and finish reason go into `completion`."""
    if data == b"[DONE]":
        return None
    try:
        chunk = orjson.loads(data)
        if error := chunk.get("error"):
            raise ModelFailedError(problem("model_error", _quoted(error)), retryable=True)
        model = chunk.get("model")
        if isinstance(model, str) and 0 < len(model) <= _MAX_NAME_CHARACTERS:
            completion.model = model
        if usage := chunk.get("usage"):
            completion.usage = _read_usage(usage)
        choices = chunk.get("choices")
        if not choices:
            return None
        completion.finish_reason = choices[0].get("finish_reason") or completion.finish_reason
        content = (choices[0].get("delta") or {}).get("content")
    except (AttributeError, LookupError, TypeError, ValueError) as error:  # orjson's and pydantic's are ValueErrors
        raise _no_completion() from error
    return content if isinstance(content, str) else None


def _read_usage(raw: object) -> Usage:
    """The usage in an event. Raises ValueError."""
    usage = Usage.model_validate(raw)
    if not all(0 <= tokens <= _MAX_TOKENS for tokens in usage.model_dump().values()):
        raise ValueError("tokens that cannot be counted")
    return usage


def _no_completion() -> ModelFailedError:
    detail = "The model server sent something that is not a streamed chat completion. Check OPENAI_BASE_URL."
    return ModelFailedError(problem("model_error", detail), retryable=False)


def _too_long() -> ModelFailedError:
    detail = f"The reply grew beyond {MAX_REPLY_CHARACTERS:,} characters. Ask for less at once."
    return ModelFailedError(problem("model_error", detail), retryable=False)


def _refused(response: aiohttp.ClientResponse) -> ModelFailedError:
    status = response.status
    if status in (401, 403):
        detail = "The model server refuses this deployment's credentials. The operator has to check OPENAI_API_KEY."
    elif status == 404:
        detail = "The model server does not know this model. Choose another one."
    elif status == 429:
        detail = "The model server is busy or its quota is used up. Try again in a moment."
    elif status in _TOO_MUCH_STATUS:
        detail = f"The model server refused the request (HTTP {status}). A shorter conversation may be accepted."
    elif status < 500:
        detail = f"The model server refused the request (HTTP {status}). The operator has to check OPENAI_BASE_URL."
    else:
        detail = f"The model server failed (HTTP {status}). Try again in a moment."
    retryable = status >= 500 or status in _RETRYABLE_STATUS
    try:
        wished = float(response.headers["retry-after"])
        retry_after = wished if wished >= 0 and math.isfinite(wished) else None
    except (KeyError, ValueError):
        retry_after = None
    return ModelFailedError(problem("model_error", detail), retryable=retryable, retry_after_seconds=retry_after)


def _quoted(error: object) -> str:
    message = error.get("message") if isinstance(error, dict) else None
    said = str(message or "no details")[:_MAX_QUOTED_CHARACTERS]
    return f"The model server reported an error: {said}. Try again in a moment."
