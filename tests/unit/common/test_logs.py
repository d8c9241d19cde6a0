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

_IN_A_LOOP = """
import asyncio, io, sys
import structlog
from logue_common.logs import configure_logging

class File(io.RawIOBase):
    written = []
    def writable(self):
        return True
    def write(self, data):
        self.written.append(bytes(data))
        return len(data)

errors, sys.stderr = sys.stderr, io.TextIOWrapper(io.BufferedWriter(File()))
configure_logging("agent")
log = structlog.get_logger()

async def main():
    log.info("one")
    log.warning("two")
    assert not File.written
    await asyncio.sleep(0)
    assert [data.count(b"\\n") for data in File.written] == [2]
    log.info("three")
    await asyncio.sleep(0)
    log.error("last")

asyncio.run(main())
log.info("without a loop")
assert [data.count(b"\\n") for data in File.written] == [2, 1, 1, 1], File.written
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


def test_lines_of_one_round_of_the_loop_are_written_together_and_none_is_kept_back() -> None:
    done = subprocess.run([sys.executable, "-c", _IN_A_LOOP], check=False, capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, b"")


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
