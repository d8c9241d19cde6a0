"""A megabyte of anything takes a decoder no time worth mentioning."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.contract.expected import FULL
from tests.hostile.evil import SECRET
from tests.hostile.test_requests import IDS, _cursor, request
from tests.hostile.test_tokens import RULES

from logue_agent.model import Completion, ModelFailedError, _read_chunk
from logue_agent.model_stream import EventLines, LineTooLongError
from logue_common.errors import LogueError
from logue_common.events import decode, legible_ids
from logue_conversation.cursors import read_conversation_cursor, read_message_cursor
from logue_gateway.api.requests import preferred_wait, read_body, wants_events
from logue_gateway.api.schemas import ChatBody
from logue_gateway.auth import TokenVerifier, secret_finder
from logue_gateway.jwks import parse_key_set

_MIB = 2**20
_LARGE = {
    "brackets": b"[" * _MIB,
    "braces": b'{"a":' * (_MIB // 5),
    "digits": b"9" * _MIB,
    "one string": b'"' + b"x" * _MIB + b'"',
    "escapes": b'"' + b"\\u0000" * (_MIB // 6) + b'"',
    "surrogates": b'"' + b"\\ud800" * (_MIB // 6) + b'"',
    "keys": b"{" + b",".join(b'"%d":0' % n for n in range(100_000)) + b"}",
    "one key": b"{" + b'"a":0,' * (_MIB // 6) + b'"a":0}',
    "white space": b" " * _MIB,
    "zeros": b"0." + b"0" * _MIB,
    "dots": b"." * _MIB,
    "commas": b"," * _MIB,
}
_DECODERS: dict[str, Callable[[bytes], object]] = {
    "event": lambda raw: [decode(model, raw) for model in {type(event) for event in FULL.values()}],
    "ids of a record": legible_ids,
    "body": lambda raw: asyncio.run(read_body(request(raw, content_type="application/json"), ChatBody)),
    "event id": lambda raw: IDS.parse(raw.decode("latin-1")),
    "cursor": lambda raw: read_conversation_cursor(raw.decode("latin-1")),
    "cursor in base64": lambda raw: read_message_cursor(_cursor(raw)),
    "key set": parse_key_set,
    "token": TokenVerifier(RULES, secret_finder(SECRET)).verify,  # type: ignore[dict-item]
    "preference": lambda raw: preferred_wait(request(prefer=raw.decode("latin-1")), 30),
    "accept": lambda raw: wants_events(request(accept=raw.decode("latin-1"))),
    "chunk of the model": lambda raw: _read_chunk(Completion("m"), raw),
    "stream of the model": lambda raw: list(EventLines().feed(raw)),
}


@pytest.mark.parametrize("large", _LARGE)
@pytest.mark.parametrize("decoder", _DECODERS)
def test_a_megabyte_takes_no_time(decoder: str, large: str) -> None:
    """In CPU time, which other processes do not change."""
    sent: Any = _LARGE[large].decode("latin-1") if decoder == "token" else _LARGE[large]
    began = time.process_time()
    with contextlib.suppress(LogueError, ModelFailedError, LineTooLongError, ValueError):
        _DECODERS[decoder](sent)
    assert time.process_time() - began < 0.5
