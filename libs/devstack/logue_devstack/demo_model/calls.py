"""How often the demo model was asked what: tests count on it."""

from __future__ import annotations

from collections import OrderedDict

_REMEMBERED_MESSAGES = 20_000


class Calls:
    """Counts chat completions by the text of their last user message, the 20,000 latest of them."""

    def __init__(self) -> None:
        self.total = 0
        self._by_message: OrderedDict[str, int] = OrderedDict()

    def count(self, message: str) -> int:
        """Notes a call and returns how many there were with this message, this one included."""
        self.total += 1
        count = self._by_message.pop(message, 0) + 1
        self._by_message[message] = count
        if len(self._by_message) > _REMEMBERED_MESSAGES:
            self._by_message.popitem(last=False)
        return count

    def clear(self) -> None:
        self.total = 0
        self._by_message.clear()

    def as_json(self) -> dict[str, object]:
        return {"total": self.total, "by_message": dict(self._by_message)}
