"""Structured logs: JSON, or readable lines in a terminal. Never message text, never a token.

A turn leaves one line for each step of its life, with its id as `correlation_id`: `logue logs --turn ID` shows them.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import orjson
import structlog

from logue_common.tracing import exemplar

#: Between two lines of a library that say the same.
_SELDOM_SECONDS = 5.0
_MAX_REMEMBERED = 1000


def configure_logging(service: str, level: str = "INFO") -> None:
    """One call at process start. Standard-library loggers (aiokafka, uvicorn) are rendered the same way."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        structlog.processors.format_exc_info,
    ]
    is_terminal = sys.stderr.isatty()
    text: structlog.typing.Processor = structlog.dev.ConsoleRenderer() if is_terminal else _json_text
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Seldom())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, text],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "httpx", "httpx2", "openai"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        # Not through the standard library, which takes three times as long for a line (27 µs, 8 this way).
        processors=[*shared, text] if is_terminal else [*shared, structlog.stdlib.add_logger_name, _json],
        logger_factory=(
            structlog.PrintLoggerFactory(sys.stderr) if is_terminal else structlog.BytesLoggerFactory(sys.stderr.buffer)
        ),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


class _Seldom(logging.Filter):
    """Of what libraries say again and again, one line in a while, with how many were left out before it.

    While a broker is away, each of a service's Kafka clients would say so ten times a second.
    """

    def __init__(self) -> None:
        super().__init__()
        #: By logger, level and text: when it was let through, and how often it was not since then.
        self._said: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Part of the standard library's interface."""
        if record.exc_info:  # the same text may have another cause
            return True
        key = record.name, record.levelno, record.getMessage()
        at, left_out = self._said.get(key, (float("-inf"), 0))
        if record.created < at + _SELDOM_SECONDS:
            self._said[key] = at, left_out + 1
            return False
        if len(self._said) >= _MAX_REMEMBERED:
            self._said.clear()
        self._said[key] = record.created, 0
        if left_out:
            record.msg, record.args = f"{key[2]} ({left_out} more like this before)", None
        return True


def _json(_: Any, __: str, event: structlog.typing.EventDict) -> bytes:
    try:
        return orjson.dumps(event, default=repr)
    except orjson.JSONEncodeError:  # half of a surrogate pair, which is no UTF-8
        return json.dumps(event, default=repr).encode()


def _json_text(logger: Any, name: str, event: structlog.typing.EventDict) -> str:
    return _json(logger, name, event).decode()


def _add_trace(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The id of the current trace, when that is recorded."""
    return {**event, **(exemplar() or {})}
