"""The lines of a service, as another program reads them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

from logue_common.logs import _Seldom

_PROGRAM = """
import logging
import structlog
from logue_common.logs import configure_logging

configure_logging("agent", {level!r})
log = structlog.get_logger("logue_agent.lanes")
log.debug("too_fine")
log.info("turn_decided", correlation_id="1", seconds=0.5, odd=object, half=chr(0xD800))
try:
    raise ValueError("broken")
except ValueError:
    log.exception("turn_crashed")
logging.getLogger("aiokafka").error("cannot connect to %s", "a broker")
"""


def lines(level: str) -> list[dict[str, Any]]:
    program = [sys.executable, "-c", _PROGRAM.format(level=level)]
    done = subprocess.run(program, check=True, capture_output=True, timeout=30)
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_every_line_is_json_whoever_wrote_it() -> None:
    decided, crashed, connecting = lines("INFO")
    assert decided | {"timestamp": "", "odd": "", "half": ""} == {
        "event": "turn_decided",
        "correlation_id": "1",
        "seconds": 0.5,
        "odd": "",
        "half": "",
        "service": "agent",
        "level": "info",
        "logger": "logue_agent.lanes",
        "timestamp": "",
    }
    assert "ValueError: broken" in crashed["exception"]
    assert (connecting["event"], connecting["logger"], connecting["service"]) == (
        "cannot connect to a broker",
        "aiokafka",
        "agent",
    )
    assert all(line["timestamp"].endswith("Z") for line in (decided, crashed, connecting))


def test_the_level_is_the_least_that_is_written() -> None:
    assert [line["level"] for line in lines("ERROR")] == ["error", "error"]


def test_what_a_library_says_again_and_again_is_seldom_told() -> None:
    seldom, told = _Seldom(), []

    def said(at: float, text: str, *arguments: object) -> None:
        record = logging.LogRecord("aiokafka", logging.ERROR, "", 0, text, arguments, None)
        record.created = at
        if seldom.filter(record):
            told.append((at, record.getMessage()))

    for tenth in range(100):
        said(tenth / 10, "no broker %s", "100%")
        if tenth == 20:
            said(2.0, "another line")
    assert told == [(0.0, "no broker 100%"), (2.0, "another line"), (5.0, "no broker 100% (49 more like this before)")]
