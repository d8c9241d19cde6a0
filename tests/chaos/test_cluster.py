"""The cluster can be hurt in every way that it promises, and is well again afterwards. Tests share it in this order."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from tests.chaos.clocks import missing_for_clocks
from tests.chaos.cluster import Cluster, missing
from tests.chaos.disk import missing_for_disk
from tests.e2e.client import Client

from logue_common.topics import ALL_TOPICS
from logue_devstack.errors import DevstackError
from logue_devstack.kafka_metadata import read_metadata
from logue_devstack.process import ProcessId, wait_until

pytestmark = pytest.mark.apache

_SECONDS = 30.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if problems := missing():
        pytest.skip(" ".join(problems))
    began = time.monotonic()
    with Cluster(tmp_path_factory.mktemp("cluster"), seed=1) as cluster:
        print(f"The cluster was up after {time.monotonic() - began:.1f} s.")
        yield cluster


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    user = f"user-{uuid4().hex[:12]}"
    async with httpx.AsyncClient(timeout=httpx.Timeout(20.0, connect=5.0)) as http:
        yield Client(http, lambda: cluster.gateway_urls, user, cluster.token(user), random.Random(1))
        await asyncio.sleep(0)


async def a_turn_is_answered_and_stored(client: Client) -> None:
    reply = await client.chat("{{tokens=5}} count")
    assert reply["message"]["content"] == "w1 w2 w3 w4 w5"
    stored = await client.messages(reply["conversation_id"], after_turn=reply["turn_id"])
    assert [message["content"] for message in stored] == ["{{tokens=5}} count", "w1 w2 w3 w4 w5"]


def test_everything_is_there(cluster: Cluster) -> None:
    assert cluster.names() == [
        *("postgres", "broker-1", "broker-2", "broker-3", "demo-model", "conversation-0", "conversation-1"),
        *("agent-0", "agent-1", "gateway-0", "gateway-1"),
    ]
    assert cluster.names("broker") == ["broker-1", "broker-2", "broker-3"]
    assert all(cluster.is_running(name) and cluster.log(name).exists() for name in cluster.names())


async def test_turn_passes_a_link_between_any_two_parts(cluster: Cluster, client: Client) -> None:
    for gateway in cluster.gateway_urls:
        reply = await client.chat("{{tokens=5}} count", gateway=gateway)
        await client.messages(reply["conversation_id"], after_turn=reply["turn_id"])
    carried = {link: stats["bytes_up"] for link, stats in cluster.proxy.stats().items() if stats["bytes_up"]}
    services = [name for kind in ("gateway", "agent", "conversation") for name in cluster.names(kind)]
    for broker in cluster.names("broker"):
        others = [*services, *(other for other in cluster.names("broker") if other != broker)]
        assert {f"{other}>{broker}" for other in others} <= carried.keys()
        assert any(link.endswith(f">{broker}:controller") for link in cluster.proxy.stats())
    assert {f"client>{name}" for name in cluster.names("gateway")} <= carried.keys()
    assert {f"{name}>postgres" for name in cluster.names("conversation")} <= carried.keys()
    assert {link.partition(">")[2] for link in carried} >= {"conversation", "demo-model"}


async def test_topics_are_as_in_production(cluster: Cluster) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.kafka_bootstrap)
    await admin.start()
    try:
        topics = await admin.describe_topics()
        assert {topic["topic"] for topic in topics} >= {*ALL_TOPICS, "__consumer_offsets"}
        assert {len(partition["replicas"]) for topic in topics for partition in topic["partitions"]} == {3}
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic["topic"]) for topic in topics]
        for response in await admin.describe_configs(resources):
            for _, _, _, _, entries in response.resources:
                assert {entry[0]: entry[1] for entry in entries}["min.insync.replicas"] == "2"
    finally:
        await admin.close()


async def test_one_broker_is_not_missed_and_without_two_nothing_is_accepted_until_one_is_back(
    cluster: Cluster, client: Client
) -> None:
    await asyncio.to_thread(cluster.kill, "broker-1")
    assert not cluster.is_running("broker-1")
    await a_turn_is_answered_and_stored(client)
    with pytest.raises(DevstackError, match="broker-1 does not run"):
        cluster.wait_ready("broker-1")
    await asyncio.to_thread(cluster.stop, "broker-2")
    answer = await client.post("?", retry=False)
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)
    cluster.start("broker-1")
    await a_turn_is_answered_and_stored(client)
    cluster.start("broker-2")
    await asyncio.to_thread(cluster.wait_ready)


async def test_everything_can_be_killed_and_started_again(cluster: Cluster, client: Client) -> None:
    before = {name: cluster.pid(name) for name in cluster.names()}
    for name in cluster.names():
        await asyncio.to_thread(cluster.kill, name)
        assert not cluster.is_running(name)
    for name in cluster.names():
        await asyncio.to_thread(cluster.start, name)
    await asyncio.to_thread(cluster.wait_ready)
    assert all(cluster.pid(name) != pid for name, pid in before.items())
    await a_turn_is_answered_and_stored(client)


async def test_graceful_restart_returns_when_the_new_process_is_ready(cluster: Cluster, client: Client) -> None:
    before = cluster.pid("conversation-1")
    await asyncio.to_thread(cluster.restart, "conversation-1")
    assert cluster.pid("conversation-1") != before
    await a_turn_is_answered_and_stored(client)


async def test_paused_part_is_silent_and_goes_on(cluster: Cluster, client: Client) -> None:
    for name in ("conversation-0", "conversation-1"):
        cluster.pause(name)
    with pytest.raises(httpx.ReadTimeout):
        await client.http.get(f"{cluster.direct_gateway_urls[0]}/api/{client.user}/conversations",
                              headers=client.headers, timeout=1)  # fmt: skip
    with pytest.raises(DevstackError, match="conversation-0 was not ready"):
        await asyncio.to_thread(cluster.wait_ready, "conversation-0", timeout=0.1)
    for name in ("conversation-0", "conversation-1"):
        cluster.resume(name)
    await asyncio.to_thread(cluster.wait_ready)
    await a_turn_is_answered_and_stored(client)


async def test_blackhole_before_the_database_is_felt_and_healed(cluster: Cluster, client: Client) -> None:
    reply = await client.chat("{{echo}} before")
    await client.messages(reply["conversation_id"], after_turn=reply["turn_id"])
    assert cluster.proxy.blackhole("*>postgres") == ["conversation-0>postgres", "conversation-1>postgres"]
    answer = await client.request("GET", f"conversations/{reply['conversation_id']}", retry=False)
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)
    cluster.proxy.heal()
    await asyncio.to_thread(cluster.wait_ready)
    await a_turn_is_answered_and_stored(client)


async def test_broker_that_is_cut_off_leaves_its_cluster_and_comes_back(cluster: Cluster, client: Client) -> None:
    links = ("broker-1>*", "*>broker-1*")
    for link in links:
        cluster.proxy.blackhole(link)
    for other in ("broker-2", "broker-3"):
        assert await eventually(lambda: 1 not in live_brokers(cluster, seen_by=other))  # noqa: B023 (awaited here)
    with pytest.raises(DevstackError, match="broker-1 was not ready"):
        await asyncio.to_thread(cluster.wait_ready, "broker-1", timeout=0.1)
    for link in links:
        cluster.proxy.heal(link)
    await asyncio.to_thread(cluster.wait_ready)
    assert live_brokers(cluster, seen_by="broker-2") == {1, 2, 3}
    assert await eventually(lambda: live_brokers(cluster, seen_by="broker-1") == {1, 2, 3})
    await a_turn_is_answered_and_stored(client)


@pytest.mark.optional
async def test_clock_jump_is_seen_by_the_service_and_by_nobody_else(cluster: Cluster, client: Client) -> None:
    if problem := missing_for_clocks():
        pytest.skip(problem)
    one, other = cluster.gateway_urls
    for seconds in (3600, 0):
        cluster.clock_jump("gateway-0", seconds)
        async with asyncio.timeout(_SECONDS):
            while abs(await error_of_clock(client, one) - seconds) > 60:
                await asyncio.sleep(0.2)
        assert abs(await error_of_clock(client, other)) < 60
    with pytest.raises(DevstackError, match="only those of services can"):
        cluster.clock_jump("broker-1", 1)


@pytest.mark.optional
async def test_full_disk_is_felt_and_healed(cluster: Cluster, client: Client) -> None:
    if problem := missing_for_disk():
        pytest.skip(problem)
    await asyncio.to_thread(cluster.fill_disk)
    with pytest.raises(DevstackError, match=r"No space left on device|the database system is|Connection refused"):
        cluster.postgres.sql("CREATE TABLE filler AS SELECT repeat('x', 100) FROM generate_series(1, 200000)")
    reply = await client.chat("{{echo}} on a full disk")
    assert reply["message"]["content"] == "on a full disk"
    await asyncio.to_thread(cluster.free_disk)
    with suppress(DevstackError):  # when it did not end by itself, or is about to
        await asyncio.to_thread(cluster.wait_ready, "postgres", timeout=5)
    cluster.start("postgres")
    await asyncio.to_thread(cluster.wait_ready)
    stored = await client.messages(reply["conversation_id"], after_turn=reply["turn_id"])
    assert [message["role"] for message in stored] == ["user", "assistant"]


def test_end_leaves_no_process_and_no_mount(cluster: Cluster) -> None:
    assert cluster.proxy.child is not None
    roots = [psutil.Process(pid) for pid in (cluster.proxy.child.id.pid, *map(cluster.pid, cluster.names()))]
    processes = [ProcessId.of(each.pid) for root in roots for each in (root, *root.children(recursive=True))]
    cluster.pause("postgres")
    cluster.proxy.blackhole("*")
    began = time.monotonic()
    cluster.stop_all()
    assert time.monotonic() - began < 10
    assert not [process for process in processes if process is not None and process.is_alive()]
    assert str(cluster.folder) not in Path("/proc/mounts").read_text()


def live_brokers(cluster: Cluster, *, seen_by: str) -> frozenset[int]:
    metadata = read_metadata(cluster.port(seen_by))
    return frozenset() if metadata is None else metadata.brokers


async def eventually(condition: Callable[[], bool]) -> bool:
    return await asyncio.to_thread(wait_until, condition, _SECONDS)


async def error_of_clock(client: Client, gateway: str) -> float:
    """In seconds: the gateway stamps the turns that it accepts."""
    turn = await client.ask("{{echo}} what time is it?", gateway=gateway)
    stamped = datetime.fromisoformat((await client.ended(turn["turn_id"]))["requested_at"])
    return (stamped - datetime.now(UTC)).total_seconds()
