"""`python -m monitoring` writes every generated file; `--check` says which are not as they would be written."""

from __future__ import annotations

import sys
from pathlib import Path

from monitoring.files import generated

ROOT = Path(__file__).parent.parent


def main(arguments: list[str]) -> int:
    """1 when `--check` found a difference."""
    files = generated(ROOT)
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    if "--check" not in arguments:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path])
    for path in stale:
        print(path.relative_to(ROOT))  # noqa: T201
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
