"""One agent, a real broker, the demo model over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer
from tests.integration.agent.rig import Rig, context_of, decided_context

from logue_agent import subscriber
from logue_common import consumer
from logue_common.consumer import stop_consumer
from logue_common.dead_letters import DeadLetters
from logue_common.events import ReplyTo
from logue_common.ids import new_id
from logue_common.internal import ContextMessage, TurnContext
from logue_common.topics import CHAT_DLQ, CHAT_REPLIED, CHAT_REQUESTED


async def test_a_turn_streams_its_text_and_ends_with_the_outcome_of_the_log(rig: Rig) -> None:
    async with rig.agent():
        request = await rig.ask("tell me {{tokens=20}}")
        end = await rig.end_of(request)
    [outcome] = rig.outcomes[request.turn_id]
    assert end.header.kind == "message.completed"
    assert end.data["message"]["content"] == rig.text(request) == outcome.message.content
    assert outcome.usage.completion_tokens == 20
    numbers = [frame.header.n for frame in rig.frames[request.turn_id]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert outcome.n == end.header.n == numbers[-1]


async def test_turns_of_a_conversation_run_in_order_and_each_sees_those_before_it(rig: Rig) -> None:
    async with rig.agent():
        first = await rig.ask("one {{tokens=3 gap=0.05}}")
        later = [await rig.ask(f"{n} {{{{context}}}}", conversation_id=first.conversation_id) for n in range(3)]
        ends = [await rig.end_of(request) for request in later]
    seen = [len(orjson.loads(end.data["message"]["content"])) for end in ends]
    assert seen == [3, 5, 7]
    assert rig.kinds(later[2])[0] == "turn.queued"
    assert rig.store.calls == []


async def test_conversations_run_side_by_side(rig: Rig) -> None:
    async with rig.agent():
        slow = await rig.ask("slow {{tokens=40 gap=0.05}}")
        quick = [await rig.ask(f"quick {n} {{{{tokens=3}}}}") for n in range(20)]
        for request in quick:
            await rig.end_of(request)
        assert not any(frame.header.is_end for frame in rig.frames[slow.turn_id])
        await rig.end_of(slow)


async def test_no_more_turns_than_the_limit_call_the_model_and_all_are_answered(rig: Rig) -> None:
    async with rig.agent(agent_concurrency=2):
        requests = [await rig.ask(f"n {n} {{{{tokens=2 gap=0.02}}}}") for n in range(30)]
        for request in requests:
            await rig.end_of(request, 20)


async def test_stop_keeps_the_partial_text(rig: Rig) -> None:
    async with rig.agent():
        request = await rig.ask("long {{tokens=500 gap=0.02}}")
        await rig.until(lambda: len(rig.frames[request.turn_id]) > 5)
        await rig.cancel(request)
        end = await rig.end_of(request)
    assert end.header.kind == "turn.cancelled"
    assert end.data["content"] == rig.text(request) != ""


async def test_cancel_before_its_request_was_fetched_never_calls_the_model(rig: Rig) -> None:
    question = f"never asked {new_id()}"
    request = rig.request(question)
    await rig.cancel(request)
    await rig.publish(CHAT_REQUESTED, request)
    async with rig.agent():
        end = await rig.end_of(request)
    assert end.header.kind == "turn.cancelled"
    assert question not in await rig.model_calls()


async def test_cancel_of_a_queued_turn_never_calls_the_model(rig: Rig) -> None:
    async with rig.agent():
        first = await rig.ask("running {{tokens=30 gap=0.02}}")
        queued = await rig.ask("queued", conversation_id=first.conversation_id)
        await rig.until(lambda: "turn.queued" in rig.kinds(queued))
        await rig.cancel(queued)
        end = await rig.end_of(queued)
        assert end.header.kind == "turn.cancelled"
        assert not any(frame.header.is_end for frame in rig.frames[first.turn_id])
        await rig.end_of(first)
    assert "queued" not in await rig.model_calls()


async def test_the_context_is_asked_for_once_and_waited_for(rig: Rig) -> None:
    async with rig.agent():
        conversation_id = new_id()
        rig.store.contexts[conversation_id] = context_of("hello", "hi there")
        rig.store.not_ready = 3
        first = await rig.ask("a {{context}}", conversation_id=conversation_id)
        end = await rig.end_of(first)
        assert len(orjson.loads(end.data["message"]["content"])) == 3
        assert end.data["message"]["parent_id"] == first.user_message_id
        assert rig.outcomes[first.turn_id][0].parent_id == rig.store.contexts[conversation_id].parent_id
        second = await rig.ask("b {{context}}", conversation_id=conversation_id)
        assert len(orjson.loads((await rig.end_of(second)).data["message"]["content"])) == 5
    assert len(rig.store.calls) == 4


async def test_a_turn_without_context_fails_as_retryable_while_others_go_on(rig: Rig) -> None:
    async with rig.agent(agent_concurrency=1):
        known = await rig.ask("known {{tokens=2}}")
        await rig.end_of(known)
        rig.store.down = True
        unknown = await rig.ask("unknown", conversation_id=new_id())
        again = await rig.ask("known again {{tokens=2}}", conversation_id=known.conversation_id)
        assert (await rig.end_of(again)).header.kind == "message.completed"
        failed = await rig.end_of(unknown)
    assert failed.data["code"] == "context_unavailable"
    assert failed.data["retryable"] is True


async def test_keyed_turns_that_nobody_could_look_up_are_answered_while_the_store_is_away(rig: Rig) -> None:
    """And a retry of one that was decided gets its outcome, from whatever agent, without another model call."""
    rig.store.down = True
    question = f"fresh {new_id()} {{{{tokens=2}}}}"
    async with rig.agent():
        fresh = await rig.ask(question, verify=True, fingerprint="f")
        assert (await rig.end_of(fresh)).header.kind == "message.completed"
        second = f"second {new_id()} {{{{tokens=2}}}}"
        known = await rig.ask(second, verify=True, fingerprint="g", conversation_id=fresh.conversation_id)
        assert (await rig.end_of(known)).header.kind == "message.completed"
    async with rig.agent():
        retry = ReplyTo(partition=0, offset=0, request_id="retry")
        ends = sum(frame.header.is_end for frame in rig.frames[fresh.turn_id])
        await rig.publish(CHAT_REQUESTED, fresh.model_copy(update={"reply_to": retry}))
        await rig.until(lambda: sum(frame.header.is_end for frame in rig.frames[fresh.turn_id]) > ends)
    assert len({frame.data["message"]["id"] for frame in rig.frames[fresh.turn_id] if frame.header.is_end}) == 1
    assert len(rig.outcomes[fresh.turn_id]) == 1
    assert (await rig.model_calls())[question] == 1


@pytest.mark.parametrize("hint", [{"verify": True}, {"requested_at": datetime.now(UTC) - timedelta(minutes=5)}])
async def test_a_turn_decided_long_ago_is_not_answered_again(rig: Rig, hint: dict[str, Any]) -> None:
    """The lane has forgotten it, the store has not: a late retry, and a record that came once more."""
    rig.store.not_ready = 2
    async with rig.agent():
        request = rig.request("old {{tokens=9}}", fingerprint="f", **hint)
        rig.store.contexts[request.conversation_id] = decided_context(request, "the stored reply")
        await rig.publish(CHAT_REQUESTED, request)
        end = await rig.end_of(request)
    assert end.data["message"]["content"] == "the stored reply"
    assert "old {{tokens=9}}" not in await rig.model_calls()


async def test_the_next_turn_does_not_follow_an_old_one_that_came_once_more(rig: Rig) -> None:
    stored = context_of("one", "reply one", "two", "reply two")
    conversation = new_id()
    async with rig.agent():
        rig.store.contexts[conversation] = stored
        third = await rig.ask("three {{tokens=2}}", conversation_id=conversation)
        await rig.end_of(third)  # cached now
        old = rig.request(
            "one",
            conversation_id=conversation,
            user_message_id=stored.messages[0].id,
            reply_message_id=stored.messages[1].id,
            requested_at=datetime.now(UTC) - timedelta(minutes=5),
        )
        rig.store.contexts[conversation] = decided_context(old, "reply one")
        await rig.publish(CHAT_REQUESTED, old)
        await rig.end_of(old)

        third_messages = [
            ContextMessage(id=third.user_message_id, parent_id=stored.parent_id, role="user", content=third.content),
            ContextMessage(
                id=third.reply_message_id, parent_id=third.user_message_id, role="assistant", content="reply three"
            ),
        ]
        rig.store.contexts[conversation] = TurnContext(
            parent_id=third.reply_message_id, messages=[*stored.messages, *third_messages], status="queued"
        )
        fourth = await rig.ask("four {{tokens=2}}", conversation_id=conversation)
        await rig.end_of(fourth)
    assert rig.outcomes[fourth.turn_id][0].parent_id == third.reply_message_id


async def test_unreadable_records_on_the_way_do_not_confuse_a_takeover(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Burying takes its time, and partitions are restored meanwhile: what was fetched before that is read again."""
    bury = DeadLetters.bury

    async def slow(self: DeadLetters, *arguments: Any, **options: Any) -> None:
        await asyncio.sleep(0.3)
        await bury(self, *arguments, **options)

    monkeypatch.setattr(DeadLetters, "bury", slow)
    async with rig.agent():
        asked = [await rig.ask("before {{tokens=2}}") for _ in range(24)]
        for request in asked:
            await rig.end_of(request)
    for request in asked:
        await rig.raw(CHAT_REPLIED, request.conversation_id, b"\x00")
    async with rig.agent() as resources:
        again = [await rig.ask("after {{tokens=2}}") for _ in range(6)]
        for request in again:
            assert (await rig.end_of(request, 20)).header.kind == "message.completed"
        assert not resources.subscriber.has_reread


async def test_a_member_that_cannot_commit_connects_anew(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the client waits for a coordinator for ever: the group has long gone on without it."""
    commits = subscriber.commit

    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(consumer, "CUT_OFF_SECONDS", 1.0)
    async with rig.agent() as resources:
        first = resources.subscriber._consumer
        monkeypatch.setattr(subscriber, "commit", never)
        await rig.end_of(await rig.ask("before {{tokens=2}}"))
        await rig.until(lambda: resources.subscriber._consumer not in (first, None), 30)
        monkeypatch.setattr(subscriber, "commit", commits)
        await rig.end_of(await rig.ask("after {{tokens=2}}"), 30)


async def test_a_failing_model_ends_the_turn_with_a_sentence(rig: Rig) -> None:
    async with rig.agent():
        broken = await rig.ask("broken {{fail=500}}")
        flaky = await rig.ask(f"flaky {new_id()} {{{{fail=503 fail_times=2 tokens=3}}}}")
        cut = await rig.ask("cut {{tokens=9 gap=0.01 cut=4}}")
        assert (await rig.end_of(broken)).data["code"] == "model_error"
        assert (await rig.end_of(flaky)).header.kind == "message.completed"
        failed = await rig.end_of(cut)
    assert failed.header.kind == "turn.failed"
    assert failed.data["turn_id"] == cut.turn_id


async def test_a_live_turn_shows_its_text_so_far_every_few_seconds(rig: Rig) -> None:
    async with rig.agent():
        request = await rig.ask("slow {{tokens=70 gap=0.1}}")
        await rig.until(lambda: "checkpoint" in rig.kinds(request), 8)
        kinds = rig.kinds(request)
        frames = rig.frames[request.turn_id]
        at = kinds.index("checkpoint")
        before = "".join(frame.data["delta"] for frame in frames[:at] if frame.header.kind == "message.delta")
        assert frames[at].data["content"] == before
        await rig.cancel(request)
        await rig.end_of(request)


async def test_an_attempt_is_announced_soon_unless_its_outcome_comes_first(rig: Rig) -> None:
    async with rig.agent():
        slow = [await rig.ask(f"slow {n} {{{{ttft=0.5 tokens=2}}}}") for n in range(3)]
        quick = await rig.ask("quick {{tokens=2}}")
        await rig.until(lambda: all(rig.announced[request.turn_id] for request in slow))
        assert not any(rig.outcomes[request.turn_id] for request in slow)
        for request in (*slow, quick):
            await rig.end_of(request)
        last = await rig.ask("last {{ttft=0.5 tokens=2}}")  # its announcement comes after any of before
        await rig.until(lambda: rig.announced[last.turn_id])
        await rig.end_of(last)
    assert [len(rig.announced[request.turn_id]) for request in (*slow, quick)] == [1, 1, 1, 0]
    assert rig.announced[last.turn_id][0].attempt == rig.outcomes[last.turn_id][0].attempt


async def test_a_turn_that_waited_too_long_expires(rig: Rig) -> None:
    async with rig.agent():
        request = await rig.ask("late", requested_at=datetime.now(UTC) - timedelta(hours=2))
        assert (await rig.end_of(request)).data["code"] == "turn_expired"


async def test_a_retry_on_another_gateway_is_told_where_the_turn_streams(rig: Rig) -> None:
    question = f"once {new_id()} {{{{tokens=20 gap=0.05}}}}"
    async with rig.agent():
        request = await rig.ask(question, fingerprint="same")
        retry = ReplyTo(partition=1, offset=0, request_id="retry")
        await rig.publish(CHAT_REQUESTED, request.model_copy(update={"reply_to": retry}))
        await rig.until(lambda: "attach" in rig.kinds(request))
        other = ReplyTo(partition=1, offset=0, request_id="other body")
        await rig.publish(CHAT_REQUESTED, request.model_copy(update={"reply_to": other, "fingerprint": "other"}))
        await rig.until(lambda: "refused" in rig.kinds(request))
        await rig.end_of(request)
    by_kind = {frame.header.kind: frame for frame in rig.frames[request.turn_id]}
    assert by_kind["attach"].header.request == "retry"
    assert by_kind["attach"].data == {"partition": 0, "offset": 0}
    assert by_kind["refused"].data["code"] == "idempotency_mismatch"
    calls = await rig.model_calls()
    assert sum(count for text, count in calls.items() if question.split(" {", maxsplit=1)[0] in text) == 1


@asynccontextmanager
async def dead_letters(rig: Rig) -> AsyncIterator[AIOKafkaConsumer]:
    """Reads chat.dlq from now on."""
    consumer = AIOKafkaConsumer(CHAT_DLQ, bootstrap_servers=rig.bootstrap, auto_offset_reset="latest")
    await consumer.start()
    try:
        await consumer.seek_to_end()
        yield consumer
    finally:
        await stop_consumer(consumer)


async def test_an_unreadable_record_goes_to_the_dead_letters_and_its_neighbours_are_answered(rig: Rig) -> None:
    async with dead_letters(rig) as consumer:
        async with rig.agent():
            legible = rig.request("legible")
            key = legible.conversation_id
            await rig.raw(CHAT_REQUESTED, key, b"\x00 not json")
            body = orjson.loads(legible.model_dump_json()) | {"content": 17}
            await rig.raw(CHAT_REQUESTED, key, orjson.dumps(body))
            neighbour = await rig.ask("neighbour {{tokens=2}}")
            assert (await rig.end_of(neighbour)).header.kind == "message.completed"
            await rig.until(lambda: rig.outcomes[legible.turn_id] != [])
            assert rig.outcomes[legible.turn_id][0].status == "failed"
        records = [await asyncio.wait_for(consumer.getone(), 5) for _ in range(2)]
    headers = dict(records[0].headers)
    assert headers["original_topic"] == b"chat.requested"
    assert headers["error_class"] == b"unreadable"
    assert records[0].value == b"\x00 not json"


async def test_a_stop_by_another_user_goes_to_the_dead_letters_and_stops_nothing(rig: Rig) -> None:
    async with dead_letters(rig) as consumer:
        async with rig.agent():
            request = await rig.ask("mine {{tokens=20 gap=0.05}}")
            await rig.until(lambda: len(rig.frames[request.turn_id]) > 1)
            await rig.cancel(request.model_copy(update={"user_id": "somebody-else"}))
            assert (await rig.end_of(request)).header.kind == "message.completed"
        buried = await asyncio.wait_for(consumer.getone(), 5)
    headers = dict(buried.headers)
    assert headers["original_topic"] == b"chat.cancels"
    assert headers["error_class"] == b"isolation"
    assert orjson.loads(buried.value)["turn_id"] == request.turn_id
