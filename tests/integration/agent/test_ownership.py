"""Partitions that move between agents: nothing decided runs again, nothing that stays is interrupted."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from tests.integration.agent.rig import Rig, agent_process, open_rig

from logue_common.ids import new_id
from logue_common.topics import CHAT_REQUESTED, partition_of


def calls_of(calls: dict[str, int], mark: str) -> dict[str, int]:
    return {text: count for text, count in calls.items() if mark in text}


@pytest.fixture
async def apache_rig(apache_bootstrap: str) -> AsyncIterator[Rig]:
    async with open_rig(apache_bootstrap) as opened:
        yield opened


@pytest.mark.apache
async def test_ten_rebalances_and_a_killed_agent_call_the_model_once_for_each_finished_turn(apache_rig: Rig) -> None:
    """Slow turns hold the commits back, so that every takeover finds hundreds of finished turns in the log."""
    rig, mark = apache_rig, new_id()
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(agent_process(rig))
        await stack.enter_async_context(agent_process(rig))
        slow = [await rig.ask(f"slow {mark} {n} {{{{tokens=50 gap=0.4}}}}") for n in range(24)]
        quick = [await rig.ask(f"quick {mark} {n} {{{{tokens=2}}}}") for n in range(300)]
        for request in quick:
            await rig.end_of(request, 30)
        for _ in range(5):
            async with rig.agent():
                await asyncio.sleep(0.1)
        await first.kill()
        for request in slow:
            await rig.end_of(request, 90)
    calls = calls_of(await rig.model_calls(), mark)
    assert {count for text, count in calls.items() if text.startswith("quick")} == {1}
    for request in [*slow, *quick]:
        contents = {outcome.message.content for outcome in rig.outcomes[request.turn_id]}
        assert len(contents) == 1


@pytest.mark.apache
async def test_a_rebalance_interrupts_no_turn_that_stays_with_its_owner(apache_rig: Rig) -> None:
    """On the real broker only: the stand-in refuses commits during a rebalance, and one rebalance becomes several."""
    rig, mark = apache_rig, new_id()
    async with rig.agent() as staying:
        requests = [await rig.ask(f"{mark} {n} {{{{tokens=40 gap=0.1}}}}") for n in range(24)]
        for request in requests:
            await rig.until(lambda turn_id=request.turn_id: rig.frames[turn_id] != [])
        async with agent_process(rig):
            kept = staying.subscriber.owned_partitions
            for request in requests:
                await rig.end_of(request, 40)
    assert 0 < len(kept) < 12
    stayed = [request for request in requests if partition_of(request.conversation_id, 12) in kept]
    moved = [request for request in requests if request not in stayed]
    attempts = {request.turn_id: {f.header.attempt for f in rig.frames[request.turn_id]} for request in requests}
    assert all(len(attempts[request.turn_id]) == 1 for request in stayed)
    assert all(len(attempts[request.turn_id]) == 2 for request in moved)
    calls = list(calls_of(await rig.model_calls(), mark).values())
    assert sum(calls) == len(stayed) + 2 * len(moved)


async def test_a_paused_agent_that_wakes_after_the_takeover_changes_nothing(rig: Rig) -> None:
    async with agent_process(rig) as paused:
        request = await rig.ask("paused {{tokens=40 gap=0.05}}")
        await rig.until(lambda: len(rig.frames[request.turn_id]) > 3)
        paused.signal(signal.SIGSTOP)
        await paused.expire()
        async with rig.agent():
            end = await rig.end_of(request, 30)
            paused.signal(signal.SIGCONT)
            again = await rig.ask("after {{tokens=2}}", conversation_id=request.conversation_id)
            await rig.end_of(again, 30)
    outcomes = rig.outcomes[request.turn_id]
    assert end.data["message"]["content"] == outcomes[0].message.content
    attempts = [frame.header.attempt for frame in rig.frames[request.turn_id]]
    assert max(attempts) > attempts[0]
    assert any(frame.header.kind == "message.reset" for frame in rig.frames[request.turn_id])


async def test_an_agent_told_to_stop_finishes_what_runs_and_hands_over_the_rest(rig: Rig) -> None:
    async with agent_process(rig, LOGUE_AGENT_DRAIN_SECONDS="10") as leaving:
        running = await rig.ask("running {{tokens=20 gap=0.05}}")
        waiting = await rig.ask("waiting {{tokens=2}}", conversation_id=running.conversation_id)
        await rig.until(lambda: len(rig.frames[running.turn_id]) > 3)
        leaving.signal(signal.SIGTERM)
        await rig.end_of(running)
        await asyncio.to_thread(leaving.process.wait, 10)
        assert rig.frames[waiting.turn_id][-1].header.kind == "turn.queued"
        rig.store.down = True
        async with rig.agent():
            assert (await rig.end_of(waiting, 20)).data["code"] == "context_unavailable"
    assert {frame.header.attempt for frame in rig.frames[running.turn_id]} == {
        rig.frames[running.turn_id][0].header.attempt
    }


async def test_an_agent_that_leaves_others_finishes_what_runs_and_they_answer_at_once(rig: Rig) -> None:
    mark = new_id()
    async with agent_process(rig, LOGUE_AGENT_DRAIN_SECONDS="20") as leaving, rig.agent() as staying:
        await rig.until(lambda: 0 < len(staying.subscriber.owned_partitions) < 12, 20)
        going_on = [await rig.ask(f"{mark} {n} {{{{tokens=100 gap=0.05}}}}") for n in range(12)]
        await rig.until(lambda: all(len(rig.frames[request.turn_id]) > 3 for request in going_on))
        leaving.signal(signal.SIGTERM)
        await rig.until(lambda: len(staying.subscriber.owned_partitions) == 12, 10)
        behind = [
            await rig.ask(f"{mark} behind {n} {{{{context}}}}", conversation_id=request.conversation_id)
            for n, request in enumerate(going_on)
        ]
        began = asyncio.get_running_loop().time()
        others = [await rig.ask(f"{mark} other {n} {{{{tokens=2}}}}") for n in range(24)]
        for request in others:
            assert (await rig.end_of(request)).header.kind == "message.completed"
        assert asyncio.get_running_loop().time() - began < 3, "nobody waits until the other one is gone"
        assert not any(frame.header.is_end for request in going_on for frame in rig.frames[request.turn_id])
        for request in going_on:
            end = await rig.end_of(request, 20)
            assert rig.text(request) == end.data["message"]["content"]
            assert end.data["message"]["content"].endswith("w100")
        for first, second in zip(going_on, behind, strict=True):
            assert (await rig.end_of(second)).header.is_end  # the store of this rig does not know the conversation
            finished = [rig.outcomes[request.turn_id][0].finished_at for request in (first, second)]
            assert finished == sorted(finished)
        await asyncio.to_thread(leaving.process.wait, 10)
    for request in going_on:
        assert {frame.header.attempt for frame in rig.frames[request.turn_id]} == {
            rig.frames[request.turn_id][0].header.attempt
        }
    assert set(calls_of(await rig.model_calls(), mark).values()) == {1}


async def test_what_waits_for_a_slot_of_a_leaving_agent_is_not_waited_for(rig: Rig) -> None:
    async with (
        agent_process(rig, LOGUE_AGENT_DRAIN_SECONDS="20", LOGUE_AGENT_CONCURRENCY="1") as leaving,
        rig.agent() as staying,
    ):
        await rig.until(lambda: 0 < len(staying.subscriber.owned_partitions) < 12, 20)
        ids = [
            i for i in (new_id() for _ in range(200)) if partition_of(i, 12) not in staying.subscriber.owned_partitions
        ]
        text = "{{tokens=100 gap=0.05}}"
        begun = await rig.ask(text, conversation_id=ids[0], new_conversation=True)
        await rig.until(lambda: len(rig.frames[begun.turn_id]) > 3)
        waiting = await rig.ask("waits {{tokens=2}}", conversation_id=ids[1], new_conversation=True)
        await asyncio.sleep(0.3)
        leaving.signal(signal.SIGTERM)
        assert (await rig.end_of(waiting, 4)).header.kind == "message.completed"
        assert not any(frame.header.is_end for frame in rig.frames[begun.turn_id])
        assert (await rig.end_of(begun, 10)).header.kind == "message.completed"
    assert "message.reset" not in rig.kinds(begun) + rig.kinds(waiting)


async def test_what_a_leaving_agent_could_not_finish_begins_anew_at_once(rig: Rig) -> None:
    async with agent_process(rig, LOGUE_AGENT_DRAIN_SECONDS="2") as leaving, rig.agent() as staying:
        await rig.until(lambda: 0 < len(staying.subscriber.owned_partitions) < 12, 20)
        requests = [await rig.ask(f"long {n} {{{{tokens=80 gap=0.05}}}}") for n in range(20)]
        await rig.until(lambda: all(len(rig.frames[request.turn_id]) > 3 for request in requests))
        leaving.signal(signal.SIGTERM)

        def resets() -> list[str]:
            return [request.turn_id for request in requests if "message.reset" in rig.kinds(request)]

        await rig.until(resets, 3.5)  # its drain, and no margin of two seconds
        for request in requests:
            assert (await rig.end_of(request, 20)).data["message"]["content"].endswith("w80")
    assert 0 < len(resets()) < len(requests)


async def test_a_turn_stopped_while_its_former_owner_finishes_it_ends_at_once(rig: Rig) -> None:
    async with agent_process(rig, LOGUE_AGENT_DRAIN_SECONDS="20") as leaving, rig.agent() as staying:
        await rig.until(lambda: 0 < len(staying.subscriber.owned_partitions) < 12, 20)
        elsewhere = (new_id() for _ in range(1000))
        conversation = next(i for i in elsewhere if partition_of(i, 12) not in staying.subscriber.owned_partitions)
        request = await rig.ask("going on {{tokens=100 gap=0.05}}", conversation_id=conversation, new_conversation=True)
        await rig.until(lambda: len(rig.frames[request.turn_id]) > 3)
        leaving.signal(signal.SIGTERM)
        await rig.until(lambda: len(staying.subscriber.owned_partitions) == 12, 10)
        await rig.cancel(request)
        end = await rig.end_of(request)
        await asyncio.to_thread(leaving.process.wait, 10)
    assert end.header.kind == "turn.cancelled"
    assert rig.outcomes[request.turn_id][0].status == "cancelled"
    assert rig.outcomes[request.turn_id][0].message is None
    assert "message.reset" in rig.kinds(request)


async def test_turns_that_were_accepted_while_no_agent_ran_are_answered_in_order(rig: Rig) -> None:
    first = rig.request("first {{tokens=2}}")
    await rig.publish(CHAT_REQUESTED, first)
    others = [await rig.ask(f"{n} {{{{context}}}}", conversation_id=first.conversation_id) for n in range(5)]
    async with rig.agent():
        ends = [await rig.end_of(request) for request in others]
    finished = [rig.outcomes[request.turn_id][0].finished_at for request in [first, *others]]
    assert finished == sorted(finished)
    assert all(end.header.kind == "message.completed" for end in ends)


async def test_a_decided_turn_of_a_dead_owner_gets_its_end_frame_again(rig: Rig) -> None:
    async with agent_process(rig) as dead:
        holding = await rig.ask("holds the commit back {{tokens=30 gap=0.3}}")
        done = rig.request("done {{tokens=2}}", conversation_id=holding.conversation_id)
        others = [await rig.ask(f"other {n} {{{{tokens=2}}}}") for n in range(60)]
        for request in others:
            await rig.end_of(request)
        await asyncio.sleep(1.2)
        await dead.kill()
    ends_before = {request.turn_id: rig.kinds(request).count("message.completed") for request in others}
    async with rig.agent():
        await rig.cancel(holding)
        await rig.end_of(holding, 20)
        await rig.publish(CHAT_REQUESTED, done)
        await rig.end_of(done, 20)
    repeated = [r for r in others if rig.kinds(r).count("message.completed") > ends_before[r.turn_id]]
    assert len({request.turn_id for request in repeated}) == len(repeated)
    for request in others:
        assert len(rig.outcomes[request.turn_id]) == 1
