"""Shows log files together, each line with its process's name before it; or what they say of one turn, in order."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from logue_devstack.errors import DevstackError

_LOOK_SECONDS = 0.2
_TAIL_BYTES = 256 * 1024
#: What the columns show, or what is the same in every line of a turn.
_KNOWN = frozenset({"timestamp", "event", "service", "correlation_id", "level", "logger", "user_id", "conversation_id"})


def show_logs(files: Sequence[Path], *, lines: int, follow: bool) -> None:
    """Prints the last lines of each file; with `follow` goes on until Ctrl-C."""
    width = max(len(file.stem) for file in files)
    positions: dict[Path, int] = {}
    for file in files:
        end = file.stat().st_size
        with file.open("rb") as stream:
            stream.seek(max(0, end - _TAIL_BYTES))
            _print(file, stream.read(end - stream.tell()).splitlines()[-lines or end + 1 :], width)
        positions[file] = end
    with suppress(KeyboardInterrupt):
        while follow:
            time.sleep(_LOOK_SECONDS)
            for file, position in positions.items():
                positions[file] = _print_new(file, position, width)


def show_turn(turn_id: str, logs: Mapping[str, Iterable[bytes]]) -> None:
    """Prints what the logs (JSON lines, by process) say of a turn, with the seconds since its first line.

    Raises DevstackError when they say nothing.
    """
    told = [
        (datetime.fromisoformat(event["timestamp"]), process or str(event.get("service", "")), event)
        for process, lines in logs.items()
        for event in _events_of(turn_id, lines)
    ]
    told.sort(key=lambda line: line[0])
    if not told:
        raise DevstackError(
            f"The logs say nothing of turn {turn_id}. Its id is `turn_id` in answers, and the header X-Correlation-ID; "
            "with LOGUE_LOG_LEVEL above INFO turns leave no lines."
        )
    width = max(len(process) for _, process, _ in told)
    began = told[0][0]
    for at, process, event in told:
        more = "  ".join(f"{name}={value}" for name, value in event.items() if name not in _KNOWN and value is not None)
        seconds = (at - began).total_seconds()
        print(
            f"{at:%H:%M:%S}.{at.microsecond // 1000:03} {seconds:+8.3f} s  {process:<{width}}  {event['event']}  {more}"
        )


def _events_of(turn_id: str, lines: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    wanted = turn_id.encode()
    for line in lines:
        if wanted in line:
            with suppress(ValueError):  # a line of another program
                event = json.loads(line)
                if isinstance(event, dict) and event.get("correlation_id") == turn_id and "timestamp" in event:
                    yield event


def _print_new(file: Path, position: int, width: int) -> int:
    """Prints the whole lines after the position and returns the new one; a rotated file starts over."""
    size = file.stat().st_size
    position = position if size >= position else 0
    if size == position:
        return position
    with file.open("rb") as stream:
        stream.seek(position)
        new = stream.read(size - position)
    whole = new[: new.rfind(b"\n") + 1]
    _print(file, whole.splitlines(), width)
    return position + len(whole)


def _print(file: Path, lines: Sequence[bytes], width: int) -> None:
    for line in lines:
        print(f"{file.stem:<{width}} | {line.decode(errors='replace')}", flush=True)
