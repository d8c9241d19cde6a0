"""Lost turns end, through the log; turns that the log still holds are left alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from tests.integration.conversation.events import Turn, batch_of
from tests.integration.conversation.kafka import records_of
from tests.integration.conversation.support import Service, eventually, has_row

from logue_common.clock import utc_now
from logue_common.consumer import stop_consumer
from logue_common.events import ChatReplied, decode
from logue_common.ids import new_id
from logue_common.topics import CHAT_REPLIED, CHAT_REQUESTED
from logue_conversation.batches import Batch
from logue_conversation.projection import Logged
from logue_conversation.reconciler import AGENT_GROUP, Candidate


async def agents_commit(service: Service, partition: int, offset: int) -> None:
    """As the agents do, once everything below has its outcome."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=service.bootstrap_servers, group_id=AGENT_GROUP, enable_auto_commit=False
    )
    await consumer.start()
    try:
        assigned = TopicPartition(CHAT_REQUESTED, partition)
        consumer.assign([assigned])
        await consumer.commit({assigned: offset})
    finally:
        await stop_consumer(consumer)


async def status(service: Service, turn: Turn) -> str:
    return str((await service.get(turn.user_id, f"/turns/{turn.turn_id}")).json()["status"])


@pytest.mark.parametrize("how", ["committed", "lost tail", "only an attempt"])
async def test_a_turn_that_the_log_no_longer_holds_is_failed(service: Service, how: str) -> None:
    turn = Turn(user_id=f"user-{new_id()}", at=utc_now() - timedelta(minutes=5))
    waiting, fresh = turn.next(seconds=1), Turn(turn.user_id, turn.conversation_id, at=utc_now())
    if how == "only an attempt":
        await service.publish(turn.started())
    elif how == "lost tail":
        # The store knows a request at an offset that the log does not have (any more).
        lost = Logged(CHAT_REQUESTED, 0, 10**9, turn.requested())
        await service.resources.subscriber._writer.store(Batch(batch_of([lost]).events, {}))
    else:
        [sent] = await service.publish(turn.requested())
        await agents_commit(service, sent.partition, sent.offset + 1)
    await service.publish(waiting.requested(), fresh.requested())
    assert await status(service, fresh) == "queued"
    if how == "only an attempt":
        await eventually(lambda: has_row(service, turn.user_id, turn.turn_id))

    # The broker is shared: another test may have left a lost turn of its own.
    assert await service.resources.reconciler.search() >= 1

    async def has_failed() -> bool:
        return await status(service, turn) == "failed"

    await eventually(has_failed)
    stored = (await service.get(turn.user_id, f"/turns/{turn.turn_id}")).json()
    assert (stored["error"]["code"], stored["attempt"], stored["internal"]["n"]) == ("turn_lost", 0, 1)
    assert await status(service, waiting) == "queued"
    assert await status(service, fresh) == "queued"


async def is_known(service: Service, turn: Turn) -> bool:
    return (await service.get(turn.user_id, f"/turns/{turn.turn_id}")).status_code == 200


async def test_a_true_outcome_that_is_not_stored_yet_comes_first(service: Service) -> None:
    turn = Turn(user_id=f"user-{new_id()}", at=utc_now() - timedelta(minutes=5))
    [sent] = await service.publish(turn.requested())
    await eventually(lambda: is_known(service, turn))
    await service.resources.subscriber.stop()  # the outcome is in the log, but not in the store
    await service.publish(turn.replied())
    await agents_commit(service, sent.partition, sent.offset + 1)
    service.resources.reconciler._writer_seconds = 0.2
    await service.resources.reconciler.search()
    outcomes = await records_of(service.bootstrap_servers, CHAT_REPLIED, turn.conversation_id)
    assert [decode(ChatReplied, record.value).status for record in outcomes] == ["completed"]


async def test_a_turn_whose_request_is_stored_during_the_search_is_left_alone(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = Turn(user_id=f"user-{new_id()}", at=utc_now() - timedelta(minutes=5))
    await service.publish(turn.started())
    await eventually(lambda: has_row(service, turn.user_id, turn.turn_id))
    reconciler = service.resources.reconciler
    find_gone, seen = reconciler._gone, []

    async def gone(old: list[Candidate]) -> dict[Candidate, int]:
        await service.publish(turn.requested())
        await eventually(lambda: is_known(service, turn))
        found = await find_gone(old)
        seen.extend(candidate.id for candidate in found)
        return found

    monkeypatch.setattr(reconciler, "_gone", gone)
    await reconciler.search()
    assert turn.turn_id in seen, "by what was read of it before"
    outcomes = await records_of(service.bootstrap_servers, CHAT_REPLIED, turn.conversation_id)
    assert outcomes == []
