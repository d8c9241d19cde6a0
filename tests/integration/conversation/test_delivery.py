"""Duplicate and reordered delivery of every event: whatever the order, the same rows are stored, with one reply."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.conversation.events import FakeLog, Turn, batch_of
from tests.integration.conversation.support import Urls

from logue_common.events import AttemptStarted, ChatReplied, ChatRequested
from logue_common.ids import derived_id, new_id
from logue_conversation.database import Database, make_engine
from logue_conversation.migrate import migrate
from logue_conversation.projection import Change, TurnEvent
from logue_conversation.tables import metadata
from logue_conversation.writer import Writer

KINDS: tuple[type[TurnEvent], ...] = (ChatRequested, AttemptStarted, ChatReplied)


def two_turns(user_id: str, run: str) -> list[TurnEvent]:
    """One turn with a retried request, two attempts and two outcomes, and one that failed. Ids derive from `run`."""
    first = Turn(user_id, derived_id("c", run), derived_id("t1", run), reply="the first outcome")
    second = first.next()
    second.turn_id = derived_id("t2", run)
    return [
        first.requested(),
        second.requested(),
        first.started(1),
        first.started(2),
        second.started(1),
        first.replied(attempt=2),
        first.replied(attempt=1, content="a late one"),
        second.replied("failed", parent_id=first.reply_message_id),
        first.requested(),
    ]


@st.composite
def deliveries(draw: st.DrawFn) -> list[list[int]]:
    """Indices into `two_turns`, in batches: each topic in its order, interleaved, any stretch delivered again."""
    events = two_turns("u", "model")
    topics = [[i for i, event in enumerate(events) if isinstance(event, kind)] for kind in KINDS]
    choices = draw(st.permutations([t for t, indices in enumerate(topics) for _ in indices]))
    order = [topics[topic].pop(0) for topic in choices]
    cuts = sorted(draw(st.lists(st.integers(1, len(order) - 1), max_size=4, unique=True)))
    batches = [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    delivered: list[list[int]] = []
    for index, batch in enumerate(batches):
        delivered.append(batch)
        if draw(st.booleans()):  # a rebalance: everything since some commit comes again
            since = draw(st.integers(0, index))
            delivered.append([i for old in batches[since : index + 1] for i in old])
    return delivered


class Bench:
    """A writer and eyes, on a loop of their own: Hypothesis calls a synchronous test many times."""

    def __init__(self, urls: Urls) -> None:
        self._runner = asyncio.Runner()
        self._runner.run(migrate(urls.migration_settings()))
        engines = [make_engine(url, pool_size=1, command_seconds=10) for url in (urls.api, urls.writer)]
        self._api, self._writing = map(Database, engines)
        self._writer = Writer(self._writing)

    def deliver(self, user_id: str, run: str, batches: list[list[int]]) -> tuple[dict[str, list[str]], list[Change]]:
        """What is stored for the user after these batches, and what was to be told."""
        return self._runner.run(self._deliver(user_id, run, batches))

    async def _deliver(
        self, user_id: str, run: str, batches: list[list[int]]
    ) -> tuple[dict[str, list[str]], list[Change]]:
        records = FakeLog().add(*two_turns(user_id, run))
        changes: list[Change] = []
        for batch in batches:
            changes += await self._writer.store(batch_of([records[index] for index in batch]))

        async def rows(connection: Any) -> dict[str, list[str]]:
            tables = [metadata.tables[name] for name in ("conversations", "turns", "messages")]
            return {t.name: sorted(map(repr, await connection.execute(t.select()))) for t in tables}

        return await self._api.as_user(user_id, rows), changes

    def close(self) -> None:
        """Close everything."""
        for database in (self._api, self._writing):
            self._runner.run(database.close())
        self._runner.close()


@pytest.fixture
def bench(empty_urls: Urls) -> Iterator[Bench]:
    built = Bench(empty_urls)
    yield built
    built.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=deliveries())
def test_any_delivery_leaves_the_same_rows_and_one_reply(bench: Bench, batches: list[list[int]]) -> None:
    run = new_id()
    rows, changes = bench.deliver(f"{run}-a", run + "a", batches)
    plain_rows, plain_changes = bench.deliver(f"{run}-b", run + "b", [list(range(9))])
    assert [change.change for change in plain_changes] == ["conversation.created", "turn.finished", "turn.finished"]

    assert len(rows["messages"]) == 3
    assert sum("the first outcome" in row for row in rows["messages"]) == 1
    assert not any("a late one" in row for row in rows["messages"])
    assert without_ids(rows) == without_ids(plain_rows)
    assert changes[0].change == "conversation.created"
    turns = {change.turn_id for change in changes} - {None}
    assert len(turns) == 2
    for turn in turns:
        told = [change.change for change in changes if change.turn_id == turn]
        assert set(told[told.index("turn.finished") :]) == {"turn.finished"}


def without_ids(rows: dict[str, list[str]]) -> dict[str, list[str]]:
    """Rows with every user and id replaced, so that two runs can be compared."""
    return {name: sorted(re.sub(r"[0-9a-f-]{36}(-[ab])?", "id", row) for row in found) for name, found in rows.items()}
