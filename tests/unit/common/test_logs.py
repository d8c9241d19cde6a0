"""The lines of a service, as another program reads them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

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
