"""Shows log files together, each line with its process's name before it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_LOOK_SECONDS = 0.2
_TAIL_BYTES = 256 * 1024


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
