"""The process, as it is run in production."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import httpx
from tests.integration.conversation.events import Turn
from tests.integration.conversation.support import TOKEN, Urls, eventually, publish

from logue_common.ids import new_id
from logue_common.producer import Producer
from logue_common.settings import KafkaSettings, TopicSettings
from logue_common.topics import ensure_topics
from logue_devstack.noida import NoidaBroker
from logue_devstack.server import free_ports


async def test_sigterm_ends_it_within_seconds_and_nothing_is_lost(urls: Urls, noida_broker: NoidaBroker) -> None:
    port = free_ports(1)[0]
    environment = {
        **os.environ,
        "LOGUE_KAFKA_BOOTSTRAP": noida_broker.bootstrap,
        "LOGUE_INTERNAL_TOKEN": TOKEN,
        "LOGUE_CONVERSATION_PORT": str(port),
        "LOGUE_DATABASE_URL": urls.api,
        "LOGUE_DATABASE_WRITER_URL": urls.writer,
        "LOGUE_DATABASE_RELAY_URL": urls.relay,
    }
    await ensure_topics(KafkaSettings(kafka_bootstrap=noida_broker.bootstrap), TopicSettings(partitions=4))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    producer = Producer({"bootstrap_servers": noida_broker.bootstrap}, client_id="test")
    producer.start()
    first = Turn(user_id=f"user-{new_id()}")
    turns = [first, *(first.next(f"q{n}") for n in range(199))]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:

        async def is_ready() -> bool:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        async def is_complete() -> bool:
            path = f"/internal/users/{first.user_id}/conversations/{first.conversation_id}/messages"
            last = (await client.get(path, params={"order": "desc", "limit": 1})).json()["items"]
            return bool(last) and last[0]["content"] == "q198"

        for final in (False, True):
            process = await asyncio.create_subprocess_exec(sys.executable, "-m", "logue_conversation", env=environment)
            try:
                await eventually(is_ready)
                if final:
                    await eventually(is_complete)
                else:
                    await publish(producer, *(turn.requested() for turn in turns))
            finally:
                process.send_signal(signal.SIGTERM)
                # uvicorn ends by the signal that it was given, after a clean shutdown
                assert await asyncio.wait_for(process.wait(), 8) in (0, -signal.SIGTERM)
    await producer.close()
