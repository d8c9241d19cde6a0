"""Where a new owner begins to read the four topics of a partition."""

from __future__ import annotations

from collections.abc import Mapping


def start_positions(
    committed: Mapping[str, int | None], beginnings: Mapping[str, int], ends: Mapping[str, int]
) -> dict[str, int]:
    """The committed positions, or the beginnings where nothing was committed or retention has passed it.

    A commit beyond the end of its topic means that the log lost its tail, and uses those offsets again, as the stand-in
    broker does when it is killed. Then nothing in it is where it was: everything is read from the beginning, so that
    every decided turn is known as such.
    """
    if any(offset is not None and offset > ends[topic] for topic, offset in committed.items()):
        return dict(beginnings)
    return {topic: max(offset or 0, beginnings[topic]) for topic, offset in committed.items()}
