"""How often the demo model was asked what, and what it billed: tests count on it."""

from __future__ import annotations

import time
from collections import OrderedDict

_REMEMBERED_MESSAGES = 20_000
Usage = dict[str, int]


class Calls:
    """Counts chat completions by the text of their last user message, the 20,000 latest of them.

    Every call is counted; billed are those that were generated to the end.
    """

    def __init__(self) -> None:
        self.clear()

    def count(self, message: str) -> int:
        """Notes a call and returns how many there were with this message, this one included."""
        self.total += 1
        count = self._by_message.pop(message, 0) + 1
        self._by_message[message] = count
        if len(self._by_message) > _REMEMBERED_MESSAGES:
            self._billed.pop(self._by_message.popitem(last=False)[0], None)
        return count

    def bill(self, message: str, usage: Usage) -> None:
        """Notes that a call with this message was generated to the end."""
        self._billed.setdefault(message, []).append(usage)

    def clear(self) -> None:
        """Forgets everything."""
        self.total = 0
        #: When counting began, in epoch seconds.
        self.since = time.time()
        self._by_message: OrderedDict[str, int] = OrderedDict()
        self._billed: dict[str, list[Usage]] = {}

    def as_json(self) -> dict[str, object]:
        return {"total": self.total, "by_message": dict(self._by_message)}

    def bill_as_json(self) -> dict[str, object]:
        return {"since": self.since, "by_message": self._billed}
