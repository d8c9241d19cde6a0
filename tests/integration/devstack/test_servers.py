"""The devstack's own servers: they start, survive what they must survive, and say what is wrong."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from logue_devstack.apache_kafka import ApacheKafka
from logue_devstack.errors import DevstackError
from logue_devstack.kafka_metadata import read_metadata
from logue_devstack.noida import NoidaBroker
from logue_devstack.postgres import Postgres
from logue_devstack.process import wait_until
from logue_devstack.server import Server, free_ports, port_answers


async def test_owner_owns_the_database_but_is_no_superuser(postgres_server: Postgres) -> None:
    connection = await asyncpg.connect(postgres_server.create_database("owned"))
    try:
        row = await connection.fetchrow(
            "SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = current_user"
        )
        assert tuple(row) == (False, False, True)
        await connection.execute("CREATE TABLE x (a int); CREATE ROLE somebody LOGIN PASSWORD 'secret'")
    finally:
        await connection.close()


async def test_wrong_password_is_refused(postgres_server: Postgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres_server.url("logue_owner", "wrong"))


async def test_committed_rows_survive_a_kill_and_a_new_password_is_taken_over(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "pg", free_ports(1)[0], owner_password="o'ne\\")
    with server:
        connection = await asyncpg.connect(server.owner_url)
        await connection.execute("CREATE TABLE x (a int); INSERT INTO x VALUES (1)")
        connection.terminate()
        server.kill()
    with Postgres(tmp_path / "pg", server.port, owner_password="two") as again:
        connection = await asyncpg.connect(again.owner_url)
        assert await connection.fetchval("SELECT a FROM x") == 1
        await connection.close()


def test_busy_port_is_named(tmp_path: Path, noida_broker: NoidaBroker) -> None:
    with pytest.raises(DevstackError, match=f"Port {noida_broker.port} .* in use"):
        NoidaBroker(tmp_path, noida_broker.port).start()


@pytest.mark.parametrize("kind", ["noida", pytest.param("apache", marks=pytest.mark.apache)])
def test_broker_comes_back_after_a_kill(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    port, controller_port = free_ports(2)
    broker: Server
    if kind == "apache":
        request.getfixturevalue("apache_broker")  # skips where it cannot run
        broker = ApacheKafka(tmp_path, port, controller_port=controller_port)
    else:
        broker = NoidaBroker(tmp_path, port)
    with broker:
        broker.kill()
        assert not port_answers(port)
        broker.start()
        assert broker.is_ready()
    assert not port_answers(port)


async def test_no_producer_gets_the_id_of_another_after_a_kill_of_the_stand_in(tmp_path: Path) -> None:
    """It forgets whom it gave ids; a second producer of one id would have records dropped as repetitions."""

    async def new_producer() -> AIOKafkaProducer:
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, enable_idempotence=True)
        await producer.start()
        return producer

    with NoidaBroker(tmp_path, free_ports(1)[0]) as broker:
        producers = [await new_producer() for _ in range(2)]
        try:
            for _ in range(2):
                await asyncio.to_thread(broker.kill)
                await asyncio.to_thread(broker.start)
                producers.append(await new_producer())
            ids = [producer._txn_manager.producer_id for producer in producers]
            assert len(set(ids)) == len(ids), ids
        finally:
            for producer in producers:
                await producer.stop()


def test_paused_server_does_not_answer_until_it_is_resumed(tmp_path: Path) -> None:
    with NoidaBroker(tmp_path, free_ports(1)[0]) as broker:
        assert broker.child is not None
        status = Path(f"/proc/{broker.child.id.pid}/stat")
        broker.pause()
        assert wait_until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T", 5)
        broker.resume()
        assert wait_until(lambda: status.read_text().rpartition(")")[2].split()[0] != "T", 5)


async def test_paused_postgres_answers_nobody_until_it_is_resumed(tmp_path: Path) -> None:
    """Its backends are processes of their own, in sessions of their own."""
    with Postgres(tmp_path / "pg", free_ports(1)[0]) as server:
        connection = await asyncpg.connect(server.owner_url)
        server.pause()
        answer = asyncio.create_task(connection.fetchval("SELECT 1"))
        done, _ = await asyncio.wait({answer}, timeout=0.5)
        assert not done
        server.resume()
        assert await answer == 1
        await connection.close()


async def test_postgres_killed_while_it_was_paused_starts_again_at_once(tmp_path: Path) -> None:
    with Postgres(tmp_path / "pg", free_ports(1)[0]) as server:
        connection = await asyncpg.connect(server.owner_url)
        server.pause()
        server.kill()
        connection.terminate()
        server.start()
        connection = await asyncpg.connect(server.owner_url)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


@pytest.mark.apache
async def test_metadata_of_a_broker(apache_broker: ApacheKafka) -> None:
    before = read_metadata(apache_broker.port)
    assert before is not None
    assert before.brokers == {1}
    admin = AIOKafkaAdminClient(bootstrap_servers=apache_broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name=f"metadata-{uuid4()}", num_partitions=3, replication_factor=1)])
    finally:
        await admin.close()

    def grown() -> bool:
        after = read_metadata(apache_broker.port)
        return after is not None and after.partitions - before.partitions == 3

    assert wait_until(grown, 10)
    assert before.out_of_sync == set()
    assert read_metadata(free_ports(1)[0]) is None


def test_missing_java_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(DevstackError, match=r"needs Java 17 or newer, but there is no `java` here"):
        ApacheKafka(tmp_path, free_ports(1)[0]).start()
