"""Writes the golden files and docs/metrics.md anew: `python -m tests.contract.pin`.

Look at the difference: only additions are allowed.
"""

from __future__ import annotations

from pathlib import Path

import orjson
from pydantic import BaseModel
from tests.contract.expected import FULL
from tests.contract.metrics_page import PAGE, page

from logue_common.asyncapi import EVENTS
from logue_common.events import encode
from logue_common.internal import StoredTurn, TurnContext

GOLDEN = Path(__file__).parent / "golden"
SCHEMAS = Path(__file__).parent / "schemas"
MODELS: list[type[BaseModel]] = [
    *(event for events in EVENTS.values() for event in events),
    StoredTurn,
    TurnContext,
]


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def main() -> None:
    """Golden events, schemas, and the list of metrics."""
    for name, event in FULL.items():
        _write(GOLDEN / f"{name}.json", orjson.loads(encode(event)))
    for model in MODELS:
        _write(SCHEMAS / f"{model.__name__}.json", model.model_json_schema())
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
