"""Idempotency-Key, cancel, and what happens around an acceptance that nobody confirmed."""

from __future__ import annotations

import asyncio

import pytest
from tests.integration.gateway.rig import FakeAgent, FakeStore, Gateway, Turn, assemble, bearer, events_of

from logue_common import frames
from logue_common.clock import utc_now
from logue_common.events import ConversationChanged, encode
from logue_common.ids import derived_id, new_id
from logue_common.producer import DeliveryUnknownError, NotSentError
from logue_common.topics import CONVERSATION_CHANGED

ASYNC = {"Prefer": "respond-async"}


async def test_a_retry_joins_the_live_turn(gateway: Gateway, agent: FakeAgent) -> None:
    key = new_id()
    async with gateway.chat("hi", headers={"Idempotency-Key": key}) as first:
        turn = await agent.turn()
        assert turn.request.turn_id == derived_id("turn", "ann", key)
        assert turn.request.conversation_id == derived_id("conversation", "ann", key)
        await turn.delta("one ")
        retries = [
            asyncio.create_task(
                gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers={"Idempotency-Key": key})
            )
            for _ in range(5)
        ]
        async with gateway.chat("hi", headers={"Idempotency-Key": key}) as second:
            stream = events_of(second)
            joined = [await anext(stream)]
            await turn.delta("two")
            await turn.complete()
            joined += [event async for event in stream]
        events = [event async for event in events_of(first)]
    assert assemble(joined) == assemble(events) == "one two"
    assert {(await retry).json()["message"]["content"] for retry in retries} == {"one two"}
    assert agent.requests.empty()


async def test_another_body_under_the_same_key_is_409(gateway: Gateway, agent: FakeAgent, store: FakeStore) -> None:
    headers = {"Idempotency-Key": new_id(), **ASYNC}
    await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers=headers)
    turn = await agent.turn()
    assert turn.request.fingerprint is not None
    answer = await gateway.client.post("/api/ann/chat", json={"message": "ho"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_mismatch")
    gateway.resources.memory.forget("ann", turn.request.turn_id)
    store.turns["ann", turn.request.turn_id] = turn.stored("in_progress")
    answer = await gateway.client.post("/api/ann/chat", json={"message": "ho"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_mismatch")
    answer = await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (202, "in_progress")
    assert agent.requests.empty()


async def test_a_retry_elsewhere_finds_the_stored_turn(
    gateway: Gateway, agent: FakeAgent, store: FakeStore, kafka: str
) -> None:
    headers = {"Idempotency-Key": new_id()}
    asked = asyncio.create_task(gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers=headers))
    turn = await agent.turn()
    await turn.delta("stored")
    async with Gateway(kafka, store.url, gateway_index=2) as other:
        await other.ready()
        # Live: the store knows where its frames go.
        store.turns["ann", turn.request.turn_id] = turn.stored("in_progress")
        joined = asyncio.create_task(other.client.post("/api/ann/chat", json={"message": "hi"}, headers=headers))
        await asyncio.sleep(0.3)
        await turn.complete()
        assert (await joined).json() == (await asked).json() == turn.body()
        # Over: the store answers.
        store.turns["ann", turn.request.turn_id] = turn.stored()
        again = await other.client.post("/api/ann/chat", json={"message": "hi"}, headers=headers)
        assert again.json()["message"] == turn.body()["message"]
        async with other.chat("hi", headers=headers) as response:
            events = [event async for event in events_of(response)]
        assert [event.event for event in events] == ["message.snapshot", "message.completed"]
    assert agent.requests.empty()


async def test_a_retry_of_an_attached_request_goes_where_the_turn_streams(gateway: Gateway, agent: FakeAgent) -> None:
    headers = {"Idempotency-Key": new_id()}
    await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers={**headers, **ASYNC})
    turn = await agent.turn()
    here = turn.request.reply_to
    elsewhere = next(n for n in range(16) if n not in gateway.resources.live.tail.positions)
    offset = await turn.frame(frames.DELTA, {"delta": "one "}, partition=elsewhere)
    target = {"partition": elsewhere, "offset": offset}
    await turn.frame(frames.ATTACH, target, request=here.request_id, n=0)
    async with asyncio.timeout(5):
        while gateway.resources.memory.get("ann", turn.request.turn_id).reply_to.partition != elsewhere:
            await asyncio.sleep(0.01)
    async with gateway.chat("hi", headers=headers) as response:
        stream = events_of(response)
        events = [await anext(stream)]
        turn.text = "one two"
        await turn.frame(frames.DELTA, {"delta": "two"}, partition=elsewhere)
        await turn.frame(frames.COMPLETED, turn.body(), partition=elsewhere)
        events += [event async for event in stream]
    assert assemble(events) == "one two"


async def _attached_elsewhere(gateway: Gateway, agent: FakeAgent, key: str) -> Turn:
    """A turn whose request came here, too, but which streamed to another gateway, long ago."""
    await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers={"Idempotency-Key": key, **ASYNC})
    turn = await agent.turn()
    elsewhere = next(n for n in range(16) if n not in gateway.resources.live.tail.positions)
    target = {"partition": elsewhere, "offset": 0}
    await turn.frame(frames.ATTACH, target, request=turn.request.reply_to.request_id, n=0)
    async with asyncio.timeout(5):
        while not gateway.resources.memory.get("ann", turn.request.turn_id).moved:
            await asyncio.sleep(0.01)
    return turn


async def test_a_turn_that_streamed_elsewhere_is_told_from_the_store_when_it_is_over(
    gateway: Gateway, agent: FakeAgent, store: FakeStore
) -> None:
    key = new_id()
    turn = await _attached_elsewhere(gateway, agent, key)
    turn.text = "long ago"
    store.turns["ann", turn.request.turn_id] = turn.stored()
    async with asyncio.timeout(3):
        events = await gateway.resumed(turn.request.turn_id)
        again = await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers={"Idempotency-Key": key})
    assert [event.event for event in events] == ["message.snapshot", "message.completed"]
    assert assemble(events) == again.json()["message"]["content"] == "long ago"


async def test_a_turn_that_streams_elsewhere_is_followed_there_while_the_store_is_away(
    gateway: Gateway, agent: FakeAgent, store: FakeStore
) -> None:
    turn = await _attached_elsewhere(gateway, agent, new_id())
    elsewhere = gateway.resources.memory.get("ann", turn.request.turn_id).reply_to.partition
    await store.stop()
    resumed = asyncio.create_task(gateway.resumed(turn.request.turn_id))
    turn.text = "here"
    await turn.frame(frames.DELTA, {"delta": "here"}, partition=elsewhere)
    await turn.frame(frames.COMPLETED, turn.body(), partition=elsewhere)
    assert assemble(await asyncio.wait_for(resumed, 5)) == "here"


async def test_a_turn_that_was_decided_before_it_came_here_is_over(
    gateway: Gateway, agent: FakeAgent, store: FakeStore
) -> None:
    await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers={"Idempotency-Key": new_id(), **ASYNC})
    turn = await agent.turn()
    turn.text = "long ago"
    store.turns["ann", turn.request.turn_id] = turn.stored()
    await turn.frame(frames.ATTACH, {}, request=turn.request.reply_to.request_id, n=0)
    async with asyncio.timeout(5):
        while not gateway.resources.memory.get("ann", turn.request.turn_id).over:
            await asyncio.sleep(0.01)
    assert assemble(await asyncio.wait_for(gateway.resumed(turn.request.turn_id), 3)) == "long ago"


async def test_a_key_that_cannot_be_looked_up_is_published_for_the_lane_to_verify(
    gateway: Gateway, agent: FakeAgent, store: FakeStore
) -> None:
    answer = await gateway.client.post(
        "/api/ann/chat", json={"message": "hi"}, headers={"Idempotency-Key": new_id(), **ASYNC}
    )
    assert answer.status_code == 202
    assert not (await agent.turn()).request.verify
    await store.stop()
    answer = await gateway.client.post(
        "/api/ann/chat", json={"message": "hi"}, headers={"Idempotency-Key": new_id(), **ASYNC}
    )
    assert answer.status_code == 202
    assert (await agent.turn()).request.verify


async def test_cancel_is_published_before_it_is_answered(gateway: Gateway, agent: FakeAgent, store: FakeStore) -> None:
    asked = (await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers=ASYNC)).json()
    turn = await agent.turn()
    for _ in range(2):
        answer = await gateway.client.post(f"/api/ann/turns/{asked['turn_id']}/cancel")
        assert (answer.status_code, answer.json()["turn_id"]) == (202, asked["turn_id"])
        cancel = await asyncio.wait_for(agent.cancels.get(), 5)
        assert (cancel.turn_id, cancel.conversation_id) == (asked["turn_id"], asked["conversation_id"])
        assert (cancel.user_id, cancel.reason) == ("ann", "user")
    await turn.complete()
    async with asyncio.timeout(5):
        while answer.status_code == 202:
            answer = await gateway.client.post(f"/api/ann/turns/{asked['turn_id']}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "turn_finished")
    assert store.lookups() == 0


async def test_cancel_of_a_turn_accepted_elsewhere(gateway: Gateway, agent: FakeAgent, store: FakeStore) -> None:
    await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers=ASYNC)
    turn = await agent.turn()
    gateway.resources.memory.forget("ann", turn.request.turn_id)
    path = f"/api/ann/turns/{turn.request.turn_id}/cancel"
    assert (await gateway.client.post(path)).status_code == 404
    store.turns["ann", turn.request.turn_id] = turn.stored("queued")
    assert (await gateway.client.post(path)).status_code == 202
    store.turns["ann", turn.request.turn_id] = turn.stored("completed")
    assert (await gateway.client.post(path)).status_code == 409
    await store.stop()
    answer = await gateway.client.post(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unconfirmed_turn_is_accept_unknown_and_cancelled_when_the_broker_is_back(
    gateway: Gateway, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    producer = gateway.resources.publisher._producer
    send, failures = producer.send, [DeliveryUnknownError("no answer"), NotSentError("away"), NotSentError("away")]

    async def failing(*args: object, **kwargs: object) -> object:
        if failures:
            raise failures.pop(0)
        return await send(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(producer, "send", failing)
    answer = await gateway.client.post("/api/ann/chat", json={"message": "hi", "stream": stream})
    assert (answer.status_code, answer.json()["code"]) == (503, "accept_unknown")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["x-correlation-id"] == answer.json()["turn_id"] == answer.json()["correlation_id"]
    cancel = await asyncio.wait_for(agent.cancels.get(), 5)
    assert (cancel.turn_id, cancel.reason) == (answer.json()["turn_id"], "accept_unknown")
    assert gateway.resources.memory.get("ann", answer.json()["turn_id"]) is None


async def test_a_conversation_that_began_elsewhere_goes_on_without_the_store(
    gateway: Gateway, agent: FakeAgent, store: FakeStore
) -> None:
    conversation = new_id()
    event = ConversationChanged(
        user_id="ann", conversation_id=conversation, change="conversation.created", changed_at=utc_now()
    )
    await agent.producer.send_and_wait(CONVERSATION_CHANGED, encode(event), key=b"ann")
    async with asyncio.timeout(5):
        while ("ann", conversation) not in gateway.resources.owned:
            await asyncio.sleep(0.01)
    await store.stop()
    body = {"message": "hi", "conversation_id": conversation}
    assert (await gateway.client.post("/api/ann/chat", json=body, headers=ASYNC)).status_code == 202
    answer = await gateway.client.post("/api/bob/chat", json=body, headers=ASYNC | bearer("bob"))
    assert answer.status_code == 503


async def test_a_deleted_conversation_is_asked_for_again(gateway: Gateway, agent: FakeAgent, store: FakeStore) -> None:
    asked = (await gateway.client.post("/api/ann/chat", json={"message": "hi"}, headers=ASYNC)).json()
    conversation = asked["conversation_id"]
    assert ("ann", conversation) in gateway.resources.owned
    event = ConversationChanged(
        user_id="ann", conversation_id=conversation, change="conversation.deleted", changed_at=utc_now()
    )
    await agent.producer.send_and_wait(CONVERSATION_CHANGED, b"not an event", key=b"ann")
    await agent.producer.send_and_wait(CONVERSATION_CHANGED, encode(event), key=b"ann")
    async with asyncio.timeout(5):
        while ("ann", conversation) in gateway.resources.owned:
            await asyncio.sleep(0.01)
    answer = await gateway.client.post("/api/ann/chat", json={"message": "hi", "conversation_id": conversation})
    assert (answer.status_code, answer.json()["code"]) == (404, "conversation_not_found")
