"""GET …/events: what a client that lost its stream gets, wherever it was."""

from __future__ import annotations

import asyncio

from tests.integration.gateway.rig import Event, FakeAgent, FakeStore, Gateway, Turn, assemble, events_of

from logue_common import frames
from logue_gateway import metrics


async def _whole_turn(gateway: Gateway, agent: FakeAgent) -> tuple[Turn, list[Event]]:
    """A turn with every kind of frame in its stream."""
    async with gateway.chat("hi") as response:
        turn = await agent.turn()
        await turn.frame(frames.QUEUED, {"position": 1})
        await turn.delta("A first try ")
        await turn.delta("that fails")
        await turn.checkpoint()
        turn.attempt, turn.n, turn.text = 2, 0, ""
        await turn.frame(frames.RESET, {"attempt": 2, "reason": "takeover"})
        for number in range(5):
            await turn.delta(f"word {number} ")
        await turn.checkpoint()
        await turn.delta("\u2028 last")
        await turn.complete()
        return turn, [event async for event in events_of(response)]


async def test_resume_at_every_event_gives_the_same_text(gateway: Gateway, agent: FakeAgent, store: FakeStore) -> None:
    turn, events = await _whole_turn(gateway, agent)
    assert assemble(events) == turn.text
    for number in range(len(events) - 1):
        rest = await gateway.resumed(turn.request.turn_id, events[number].id)
        assert assemble(events[: number + 1] + rest) == turn.text, f"after event {number}"
        assert rest[-1].event == "message.completed"
        assert rest[-1].data == events[-1].data
        assert "turn.started" not in {event.event for event in rest}
    assert store.lookups() == 0


async def test_resume_after_the_end_is_204(gateway: Gateway, agent: FakeAgent) -> None:
    turn, events = await _whole_turn(gateway, agent)
    async with gateway.resume(turn.request.turn_id, events[-1].id) as response:
        assert response.status_code == 204


async def test_resume_on_another_replica_while_the_turn_runs(
    gateway: Gateway, agent: FakeAgent, store: FakeStore, kafka: str
) -> None:
    async with Gateway(kafka, store.url, gateway_index=1) as other:
        await other.ready()
        async with gateway.chat("hi") as response:
            turn = await agent.turn()
            await turn.delta("one ")
            stream = events_of(response)
            seen = [await anext(stream), await anext(stream)]
        await turn.delta("two ")
        async with other.resume(turn.request.turn_id, seen[-1].id) as response:
            stream = events_of(response)
            seen.append(await anext(stream))
            await turn.delta("three")
            await turn.complete()
            seen += [event async for event in stream]
    assert assemble(seen) == "one two three"
    assert store.lookups() == 0


async def test_an_id_of_another_turn_or_a_tampered_one_is_400(gateway: Gateway, agent: FakeAgent) -> None:
    turn, events = await _whole_turn(gateway, agent)
    _, other_events = await _whole_turn(gateway, agent)
    for last in (other_events[1].id, events[1].id[:-1] + "x", "1.2.3", "x", events[1].id + ".1"):
        async with gateway.resume(turn.request.turn_id, last) as response:
            assert response.status_code == 400
            await response.aread()
            assert response.json()["code"] == "bad_request"


async def test_a_finished_turn_without_an_id_is_its_snapshot_and_end(
    gateway: Gateway, agent: FakeAgent, store: FakeStore
) -> None:
    turn, _ = await _whole_turn(gateway, agent)
    store.turns["ann", turn.request.turn_id] = turn.stored()
    events = await gateway.resumed(turn.request.turn_id)
    assert [event.event for event in events] == ["message.snapshot", "message.completed"]
    assert assemble(events) == turn.text
    # From the snapshot on only the end is missing.
    rest = await gateway.resumed(turn.request.turn_id, events[0].id)
    assert [event.event for event in rest] == ["message.completed"]
    async with gateway.resume(turn.request.turn_id, events[1].id) as response:
        assert response.status_code == 204


async def test_a_live_turn_without_an_id_starts_from_its_first_frame(gateway: Gateway, agent: FakeAgent) -> None:
    answer = await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers={"Prefer": "respond-async"})
    turn = await agent.turn()
    await turn.delta("from ")
    async with gateway.resume(answer.json()["turn_id"]) as response:
        stream = events_of(response)
        events = [await anext(stream)]
        await turn.delta("the start")
        await turn.complete()
        events += [event async for event in stream]
    assert [event.event for event in events] == ["message.delta", "message.delta", "message.completed"]
    assert assemble(events) == "from the start"


async def test_a_position_that_is_gone_is_healed_from_the_store(
    gateway: Gateway, agent: FakeAgent, store: FakeStore
) -> None:
    """As after the loss of a broker's tail: the id names an offset that the log does not have (any more)."""
    turn, events = await _whole_turn(gateway, agent)
    store.turns["ann", turn.request.turn_id] = turn.stored()
    partition, _, rest = events[3].id.split(".", 2)
    healed = await gateway.resumed(turn.request.turn_id, f"{partition}.99999999.{rest}")
    assert assemble(events[:4] + healed) == turn.text


async def test_frames_that_do_not_fit_are_healed_from_a_checkpoint(
    gateway: Gateway, agent: FakeAgent, store: FakeStore
) -> None:
    async with gateway.chat("hi") as response:
        turn = await agent.turn()
        stream = events_of(response)
        await turn.delta("one ")
        seen = [await anext(stream), await anext(stream)]
    turn.n += 3  # frames that the log lost
    turn.text += "lost "
    await turn.checkpoint()
    await turn.delta("after ")
    # An id whose position is behind the checkpoint: what follows does not fit what was seen.
    partition, offset, rest = seen[-1].id.split(".", 2)
    async with gateway.resume(turn.request.turn_id, f"{partition}.{int(offset) + 1}.{rest}") as response:
        stream = events_of(response)
        seen.append(await anext(stream))
        await turn.complete()
        seen += [event async for event in stream]
    assert assemble(seen) == "one lost after "
    assert store.lookups() == 0


async def test_a_gap_in_a_live_stream_is_healed_by_the_next_checkpoint(gateway: Gateway, agent: FakeAgent) -> None:
    async with gateway.chat("hi") as response:
        turn = await agent.turn()
        await turn.delta("one ")
        turn.n += 1
        turn.text += "two "
        await turn.delta("three ")
        await turn.checkpoint()
        await turn.delta("four")
        await turn.complete()
        events = [event async for event in events_of(response)]
    assert [event.event for event in events[1:]] == [
        "message.delta",
        "message.snapshot",
        "message.delta",
        "message.completed",
    ]
    assert assemble(events) == "one two three four"


async def test_an_outcome_of_another_attempt_replaces_what_was_shown(gateway: Gateway, agent: FakeAgent) -> None:
    async with gateway.chat("hi") as response:
        turn = await agent.turn(attempt=4)
        await turn.delta("what the second owner streamed")
        turn.text = "what the first owner's outcome said"
        await turn.frame(frames.COMPLETED, turn.body(), attempt=3, n=9)
        events = [event async for event in events_of(response)]
    assert assemble(events) == turn.text
    assert [event.event for event in events[-2:]] == ["message.snapshot", "message.completed"]
    rest = await gateway.resumed(turn.request.turn_id, events[-2].id)
    assert [event.event for event in rest] == ["message.completed"]


async def test_many_resumes_at_once_are_few_passes_and_no_lookup(
    gateway: Gateway, agent: FakeAgent, store: FakeStore
) -> None:
    turns = 20
    started = [
        await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers={"Prefer": "respond-async"})
        for _ in range(turns)
    ]
    live = [await agent.turn() for _ in started]
    for turn in live:
        for number in range(20):
            await turn.delta(f"{number} ")
    passes = metrics.REPLAY_PASSES._value.get()

    async def resume(turn: Turn) -> str:
        return assemble(await gateway.resumed(turn.request.turn_id))

    resumes = [asyncio.create_task(resume(turn)) for turn in live for _ in range(10)]
    async with asyncio.timeout(30):
        while len(gateway.resources.streams._waiters) < len(resumes):
            await asyncio.sleep(0.05)
    for turn in live:
        await turn.complete()
    texts = await asyncio.gather(*resumes)
    assert metrics.REPLAY_PASSES._value.get() - passes < len(resumes) / 3
    assert set(texts) == {live[0].text}
    assert store.lookups() == 0


async def test_silence_asks_the_store_and_ends_a_turn_that_is_over(
    kafka: str, agent: FakeAgent, store: FakeStore
) -> None:
    async with Gateway(kafka, store.url, gateway_silence_seconds=0.5) as gateway:
        await gateway.ready()
        async with gateway.chat("hi") as response:
            turn = await agent.turn()
            await turn.delta("one ")
            turn.text, turn.n = "one two", 3
            store.turns["ann", turn.request.turn_id] = turn.stored()
            events = [event async for event in events_of(response)]
        assert assemble(events) == "one two"
        asked = asyncio.create_task(gateway.client.post("/api/ann/chat", json={"message": "hi"}))
        turn = await agent.turn()
        turn.text, turn.n = "quiet", 3
        store.turns["ann", turn.request.turn_id] = turn.stored()
        assert (await asked).json()["message"]["content"] == "quiet"


async def test_a_resume_goes_on_while_the_store_is_down(gateway: Gateway, agent: FakeAgent, store: FakeStore) -> None:
    async with gateway.chat("hi") as response:
        turn = await agent.turn()
        stream = events_of(response)
        await turn.delta("one ")
        seen = [await anext(stream), await anext(stream)]
    await store.stop()
    async with gateway.resume(turn.request.turn_id, seen[-1].id) as response:
        stream = events_of(response)
        await asyncio.sleep(2.5)  # past the lookup that finds nobody
        await turn.delta("two")
        await turn.complete()
        seen += [event async for event in stream]
    assert assemble(seen) == "one two"
