"""PostgreSQL or Kafka away: nothing is lost, nobody hangs, everything recovers by itself."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import TopicPartition
from tests.integration.conversation.events import Turn
from tests.integration.conversation.support import Service, Urls, eventually, is_ready, open_service, urls_of

from logue_common import consumer
from logue_common.consumer import stop_consumer
from logue_common.ids import new_id
from logue_common.settings import KafkaSettings, TopicSettings
from logue_common.topics import ensure_topics
from logue_conversation import subscriber
from logue_conversation.batches import Batch
from logue_conversation.migrate import migrate
from logue_devstack.noida import NoidaBroker
from logue_devstack.postgres import Postgres
from logue_devstack.server import free_ports


async def test_a_database_that_goes_and_comes_back_has_everything(tmp_path: Path, noida_broker: NoidaBroker) -> None:
    server = Postgres(tmp_path / "postgres", free_ports(1)[0])
    await asyncio.to_thread(server.start)
    try:
        urls = urls_of(server, server.database, server.owner_url)
        await migrate(urls.migration_settings())
        await ensure_topics(KafkaSettings(kafka_bootstrap=noida_broker.bootstrap), TopicSettings(partitions=4))
        async with open_service(urls, noida_broker.bootstrap) as service:
            await eventually(lambda: is_ready(service))
            before = Turn(user_id=f"user-{new_id()}")
            await service.publish(before.requested(), before.replied())
            await service.messages(before, after_turn=before.turn_id)

            await asyncio.to_thread(server.stop)
            turns = [before.next(f"while it is away {n}") for n in range(20)]
            for turn in turns:
                await service.publish(turn.requested(), turn.replied())
            for path in (f"/turns/{before.turn_id}", f"/turns/{new_id()}", "/conversations"):
                started = time.monotonic()
                answer = await service.get(before.user_id, path)
                assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
                assert answer.headers["retry-after"] == "1"
                assert time.monotonic() - started < 5
            assert not await is_ready(service)

            await asyncio.to_thread(server.start)
            await eventually(lambda: is_ready(service))

            async def everything_is_there() -> bool:
                return len(await service.messages(before, limit=100)) == 42

            await eventually(everything_is_there)
    finally:
        await asyncio.to_thread(server.stop)


async def test_it_starts_without_kafka_and_recovers(tmp_path: Path, urls: Urls) -> None:
    port = free_ports(1)[0]
    async with open_service(urls, f"127.0.0.1:{port}") as service:
        assert (await service.http.get("/healthz")).status_code == 200
        assert not await is_ready(service)
        made = (await service.http.post("/internal/users/u/conversations", json={"title": "offline"})).json()
        assert (await service.get("u", f"/conversations/{made['id']}")).json() == made
        started = time.monotonic()
        unknown = await service.get("u", f"/conversations/{new_id()}")
        assert (unknown.status_code, unknown.json()["code"]) == (503, "unavailable")
        assert time.monotonic() - started < 3

        with NoidaBroker(tmp_path, port) as broker:
            await ensure_topics(KafkaSettings(kafka_bootstrap=broker.bootstrap), TopicSettings(partitions=4))
            await eventually(lambda: is_ready(service), 30)
            turn = Turn()
            await service.publish(turn.requested())
            assert (await service.get(turn.user_id, f"/turns/{turn.turn_id}")).status_code == 200
            assert (await service.get("u", f"/conversations/{new_id()}")).status_code == 404


async def test_a_position_that_a_late_writer_set_back_is_put_right(service: Service) -> None:
    turn = Turn(user_id=f"user-{new_id()}")
    [sent] = await service.publish(turn.requested())
    assert (await service.get(turn.user_id, f"/turns/{turn.turn_id}")).status_code == 200
    late = Batch([], {TopicPartition(sent.topic, sent.partition): sent.offset})
    await service.resources.subscriber._writer.store(late)
    assert (await service.get(turn.user_id, f"/turns/{new_id()}")).status_code == 404


async def test_a_writer_that_cannot_commit_connects_anew(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the client waits for a coordinator for ever: the group has long gone on without it."""
    commits, stops = subscriber.commit, []

    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    async def counted(*arguments: Any) -> None:
        stops.append(arguments)
        await stop_consumer(*arguments)

    monkeypatch.setattr(consumer, "CUT_OFF_SECONDS", 1.0)
    monkeypatch.setattr(subscriber, "_COMMIT_SECONDS", 0.5)
    monkeypatch.setattr(subscriber, "stop_consumer", counted)
    monkeypatch.setattr(subscriber, "commit", never)
    turn = Turn(user_id=f"user-{new_id()}")
    await service.publish(turn.requested())

    async def it_left() -> bool:
        await service.publish(turn.replied())
        return bool(stops)

    await eventually(it_left)
    monkeypatch.setattr(subscriber, "commit", commits)
    later = turn.next("afterwards")
    await service.publish(later.requested(), later.replied())

    async def everything_is_there() -> bool:
        return len(await service.messages(turn, limit=100)) == 4

    await eventually(everything_is_there, 30)


async def test_a_stalled_writer_is_503_and_never_404(service: Service) -> None:
    await service.resources.subscriber.stop()
    turn = Turn(user_id=f"user-{new_id()}")
    await service.publish(turn.requested())
    started = time.monotonic()
    answer = await service.get(turn.user_id, f"/turns/{turn.turn_id}")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert 1.5 < time.monotonic() - started < 4
