"""POST chat, from the request over Kafka to the reply."""

from __future__ import annotations

import asyncio

from tests.integration.gateway.rig import FakeAgent, FakeStore, Gateway, assemble, events_of

from logue_common import frames
from logue_common.errors import problem
from logue_common.ids import new_id


async def test_a_reply_streams_from_turn_started_to_message_completed(gateway: Gateway, agent: FakeAgent) -> None:
    async with gateway.chat("hi") as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        turn = await agent.turn()
        for word in ("Hello", ", ", "world"):
            await turn.delta(word)
        await turn.complete()
        events = [event async for event in events_of(response)]
    assert [event.event for event in events] == [
        "turn.started",
        *["message.delta"] * 3,
        "message.completed",
    ]
    assert events[0].data == {
        "turn_id": turn.request.turn_id,
        "conversation_id": turn.request.conversation_id,
        "user_message_id": turn.request.user_message_id,
    }
    assert assemble(events) == "Hello, world"
    assert response.headers["x-correlation-id"] == turn.request.turn_id
    assert events[-1].data["message"]["content"] == "Hello, world"


async def test_a_json_reply_is_the_completed_body(gateway: Gateway, agent: FakeAgent) -> None:
    asked = asyncio.create_task(gateway.client.post("/api/ann/chat", json={"message": "hi"}))
    turn = await agent.turn()
    await turn.delta("yes")
    await turn.complete()
    answer = await asked
    assert answer.status_code == 200
    assert answer.json() == turn.body()
    assert answer.headers["x-correlation-id"] == turn.request.turn_id


async def test_a_failed_turn_is_an_http_error_with_its_status(gateway: Gateway, agent: FakeAgent) -> None:
    for code, status, retry_after in (("model_error", 502, None), ("context_unavailable", 503, "1")):
        asked = asyncio.create_task(gateway.client.post("/api/ann/chat", json={"message": "hi"}))
        turn = await agent.turn()
        await turn.fail(code)
        answer = await asked
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers.get("retry-after") == retry_after
        assert answer.json()["code"] == code
        assert answer.json()["correlation_id"] == turn.request.turn_id


async def test_a_cancelled_turn_is_a_reply_with_the_partial_text(gateway: Gateway, agent: FakeAgent) -> None:
    asked = asyncio.create_task(gateway.client.post("/api/ann/chat", json={"message": "hi"}))
    turn = await agent.turn()
    await turn.frame(frames.CANCELLED, {"turn_id": turn.request.turn_id, "content": "half of"})
    answer = await asked
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert answer.json()["message"]["content"] == "half of"
    assert answer.json()["message"]["id"] == turn.request.reply_message_id


async def test_respond_async_and_an_ended_wait_are_202_with_a_location(gateway: Gateway, agent: FakeAgent) -> None:
    for prefer in ("respond-async", "wait=0", "respond-async, wait=1"):
        answer = await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers={"Prefer": prefer})
        turn = await agent.turn()
        assert answer.status_code == 202
        assert answer.headers["location"] == f"/api/ann/turns/{turn.request.turn_id}"
        assert answer.json() == {
            "conversation_id": turn.request.conversation_id,
            "turn_id": turn.request.turn_id,
            "status": "queued",
        }


async def test_a_conversation_is_looked_up_once(gateway: Gateway, agent: FakeAgent, store: FakeStore) -> None:
    conversation = new_id()
    store.conversations["ann", conversation] = {"id": conversation}
    for _ in range(3):
        body = {"message": "hi", "conversation_id": conversation}
        answer = await gateway.client.post("/api/ann/chat", json=body, headers={"Prefer": "respond-async"})
        assert answer.status_code == 202
        assert not (await agent.turn()).request.new_conversation
    assert len(store.calls) == 1


async def test_a_conversation_begun_here_needs_no_lookup(gateway: Gateway, agent: FakeAgent, store: FakeStore) -> None:
    first = await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers={"Prefer": "respond-async"})
    body = {"message": "more", "conversation_id": first.json()["conversation_id"]}
    assert (
        await gateway.client.post("/api/ann/chat", json=body, headers={"Prefer": "respond-async"})
    ).status_code == 202
    assert store.calls == []


async def test_an_attached_request_gets_the_whole_reply_from_elsewhere(gateway: Gateway, agent: FakeAgent) -> None:
    async with gateway.chat("one") as first:
        live = await agent.turn()
        await live.delta("Once ")
        async with gateway.chat("one") as second:
            late = await agent.turn()
            late.request = late.request.model_copy(update={"turn_id": late.request.turn_id})
            # The lane found that the second request is a turn that streams already; here it gets that turn's frames.
            elsewhere = live.request.reply_to.model_dump(include={"partition", "offset"})
            await late.frame(frames.ATTACH, elsewhere, request=late.request.reply_to.request_id, n=0)
            reply = [live.request.reply_to.partition, "Once upon"]
            partition = reply[0]
            await late.frame(frames.DELTA, {"delta": "Once "}, n=1, partition=partition)
            await late.frame(frames.DELTA, {"delta": "upon"}, n=2, partition=partition)
            late.text = "Once upon"
            await late.frame(frames.COMPLETED, late.body(), n=3, partition=partition)
            events = [event async for event in events_of(second)]
        await live.complete()
        _ = [event async for event in events_of(first)]
    assert assemble(events) == "Once upon"
    assert events[0].event == "turn.started"


async def test_an_attached_request_of_a_decided_turn_is_answered_from_the_store(
    gateway: Gateway, agent: FakeAgent, store: FakeStore
) -> None:
    async with gateway.chat("one") as response:
        turn = await agent.turn()
        await turn.frame(frames.ATTACH, {}, request=turn.request.reply_to.request_id, n=0)
        await asyncio.sleep(0.5)  # the outcome is in the log but not stored yet: the gateway asks again
        turn.text, turn.n = "stored", 2
        store.turns["ann", turn.request.turn_id] = turn.stored()
        events = [event async for event in events_of(response)]
    assert [event.event for event in events] == ["turn.started", "message.snapshot", "message.completed"]
    assert assemble(events) == "stored"


async def test_a_refused_request_ends_with_the_problem(gateway: Gateway, agent: FakeAgent) -> None:
    refusal = problem("idempotency_mismatch", "Another body.").model_dump(exclude_none=True)
    asked = asyncio.create_task(gateway.client.post("/api/ann/chat", json={"message": "hi"}))
    turn = await agent.turn()
    await turn.frame(frames.REFUSED, refusal, request="another-request", n=0)
    await turn.frame(frames.REFUSED, refusal, request=turn.request.reply_to.request_id, n=0)
    answer = await asked
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_mismatch")
    async with gateway.chat("hi") as response:
        turn = await agent.turn()
        await turn.frame(frames.REFUSED, refusal, request=turn.request.reply_to.request_id, n=0)
        events = [event async for event in events_of(response)]
    assert [event.event for event in events] == ["turn.started", "turn.failed"]
    assert events[-1].data["code"] == "idempotency_mismatch"
    assert events[-1].data["turn_id"] == turn.request.turn_id


async def test_frames_that_name_another_user_reach_nobody(gateway: Gateway, agent: FakeAgent) -> None:
    async with gateway.chat("hi") as response:
        turn = await agent.turn()
        await turn.frame(frames.DELTA, {"delta": "not yours"}, user="bob", n=1)
        await turn.delta("yours")
        await turn.complete()
        events = [event async for event in events_of(response)]
    assert assemble(events) == "yours"
