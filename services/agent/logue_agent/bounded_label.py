"""A label whose values clients choose."""

from __future__ import annotations


class BoundedLabel:
    """Values of a label that clients choose: the first ones that proved right as they are, all others as `other`."""

    def __init__(self, most: int = 30) -> None:
        self._most = most
        self._known: set[str] = set()

    def admit(self, value: str) -> str:
        """`value` exists: what the label says for it."""
        if len(self._known) < self._most:
            self._known.add(value)
        return self.of(value)

    def of(self, value: str) -> str:
        """What the label says for `value`, which may be anything."""
        return value if value in self._known else "other"
