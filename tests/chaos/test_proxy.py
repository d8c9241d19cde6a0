"""The proxy does what it says, on real sockets."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
from tests.chaos.proxy import Proxy

from logue_devstack.errors import DevstackError
from logue_devstack.process import wait_until

_SECONDS = 10.0
_SHORT = 0.3


class Target:
    """A server whose connections a test takes one by one."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(_SECONDS)
        self.port = int(self._listening.getsockname()[1])

    def accept(self, seconds: float = _SECONDS) -> socket.socket:
        self._listening.settimeout(seconds)
        connection, _ = self._listening.accept()
        connection.settimeout(_SECONDS)
        return connection

    def close(self) -> None:
        self._listening.close()


@pytest.fixture(scope="module")
def running_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with Proxy(tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy


@pytest.fixture
def target() -> Iterator[Target]:
    with closing(Target()) as target:
        yield target


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Links stay; each test has its own. Brackets would be a glob."""
    return str(request.node.name).translate({ord("["): "-", ord("]"): None})


@pytest.fixture
def proxy(running_proxy: Proxy, target: Target, name: str) -> Iterator[Proxy]:
    running_proxy.link(name, target.port)
    yield running_proxy
    running_proxy.heal(name)
    running_proxy.reset(name)


@pytest.fixture
def port(proxy: Proxy, name: str) -> int:
    with pytest.raises(DevstackError, match="already"):
        proxy.link(name, 1)
    return proxy.port_of(name)


def dial(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


@pytest.fixture
def pair(target: Target, port: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client and its target, connected through the link."""
    client = dial(port)
    server = target.accept()
    with client, server:
        yield client, server


Pair = tuple[socket.socket, socket.socket]


def read(source: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size and (part := source.recv(min(size - len(received), 1 << 20))):
        received += part
    return bytes(received)


def hears_nothing(listener: socket.socket, seconds: float = _SHORT) -> bool:
    listener.settimeout(seconds)
    try:
        return listener.recv(1) is None
    except TimeoutError:
        return True
    finally:
        listener.settimeout(_SECONDS)


def test_bytes_arrive_as_they_were_sent_in_both_directions_at_once(pair: Pair) -> None:
    up, down = os.urandom(20_000_000), os.urandom(20_000_000)
    senders = [threading.Thread(target=end.sendall, args=(data,)) for end, data in zip(pair, (up, down), strict=True)]
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(read(pair[0], len(down))))
    for thread in (*senders, reader):
        thread.start()
    assert read(pair[1], len(up)) == up
    for thread in (*senders, reader):
        thread.join()
    assert received == [down]


def test_half_closed_connection_goes_on_in_the_other_direction(proxy: Proxy, name: str, pair: Pair) -> None:
    client, server = pair
    client.sendall(b"all I have")
    client.shutdown(socket.SHUT_WR)
    assert read(server, 100) == b"all I have"
    server.sendall(b"and the answer")
    server.close()
    assert read(client, 100) == b"and the answer"
    assert wait_until(lambda: proxy.stats(name)[name]["open"] == 0, _SECONDS)
    counts = {"accepted": 1, "open": 0, "reset": 0, "unreachable": 0, "bytes_up": 10, "bytes_down": 14}
    assert proxy.stats(name)[name] == counts


def test_each_connection_goes_to_another_target_and_past_one_that_is_down(running_proxy: Proxy, name: str) -> None:
    with closing(Target()) as one, closing(Target()) as two:
        port = running_proxy.link(name, [one.port, two.port])
        for _ in range(2):
            with dial(port), one.accept(), dial(port), two.accept():
                pass
        one.close()
        for _ in range(2):
            with dial(port), two.accept():
                pass
        two.close()
        with pytest.raises(ConnectionResetError), dial(port) as client:
            client.recv(1)
        assert running_proxy.stats(name)[name]["unreachable"] > 0


def test_new_connections_go_to_the_new_target_and_open_ones_stay(
    proxy: Proxy, name: str, port: int, pair: Pair
) -> None:
    client, server = pair
    with closing(Target()) as other:
        assert proxy.retarget(name, other.port) == [name]
        with dial(port), other.accept():
            client.sendall(b"still here")
            assert read(server, 10) == b"still here"


def test_delay_is_felt_and_keeps_the_order(proxy: Proxy, name: str, pair: Pair) -> None:
    client, server = pair
    proxy.delay(name, 0.2, jitter=0.1)
    began = time.monotonic()
    for n in range(50):
        client.sendall(bytes([n]))
        time.sleep(0.001)
    assert read(server, 50) == bytes(range(50))
    assert 0.1 < time.monotonic() - began < 1
    client.shutdown(socket.SHUT_WR)
    began = time.monotonic()
    assert server.recv(1) == b""
    assert 0.1 <= time.monotonic() - began < 1, "an end is no faster than a byte"


def test_healing_sends_at_once_what_was_delayed(proxy: Proxy, name: str, pair: Pair) -> None:
    client, server = pair
    proxy.delay(name, 60)
    client.sendall(b"late")
    assert hears_nothing(server)
    assert proxy.heal(name) == [name]
    assert read(server, 4) == b"late"


def test_throttled_link_carries_so_much_and_its_connections_share_it(
    proxy: Proxy, name: str, port: int, target: Target
) -> None:
    proxy.throttle(name, 200_000)
    data = os.urandom(100_000)
    began = time.monotonic()
    clients = [dial(port) for _ in range(2)]
    servers = [target.accept() for _ in clients]
    for client in clients:
        client.sendall(data)
    assert [read(server, len(data)) for server in servers] == [data, data]
    assert 0.8 < time.monotonic() - began < 3  # 200,000 bytes less the burst
    for end in (*clients, *servers):
        end.close()


def test_blackhole_stalls_both_directions_and_healing_resumes_them(proxy: Proxy, name: str, pair: Pair) -> None:
    client, server = pair
    client.sendall(b"before ")
    assert read(server, 7) == b"before "
    proxy.blackhole(name)
    data = os.urandom(300_000)
    client.sendall(data)
    server.sendall(data)
    assert hears_nothing(server)
    assert hears_nothing(client)
    proxy.heal(name)
    assert read(server, len(data)) == data
    assert read(client, len(data)) == data


def test_end_that_died_in_a_blackhole_is_noticed_only_after_it(proxy: Proxy, name: str, pair: Pair) -> None:
    client, server = pair
    proxy.blackhole(name)
    die(server)
    assert hears_nothing(client)
    proxy.heal(name)
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_connection_begun_in_a_blackhole_is_made_when_it_is_healed_if_its_client_still_waits(
    proxy: Proxy, name: str, port: int, target: Target
) -> None:
    proxy.blackhole(name)
    with dial(port) as impatient, dial(port) as patient:
        impatient.sendall(b"given up")
        impatient.close()
        patient.sendall(b"waiting")
        with pytest.raises(TimeoutError):
            target.accept(_SHORT)
        proxy.heal(name)
        with target.accept() as server:
            assert read(server, 7) == b"waiting"
        with pytest.raises(TimeoutError):
            target.accept(_SHORT)


def test_reset_reaches_both_ends_once(proxy: Proxy, name: str, port: int, target: Target, pair: Pair) -> None:
    proxy.reset(name)
    for end in pair:
        with pytest.raises(ConnectionResetError) as raised:
            end.recv(1)
        assert raised.value.errno == errno.ECONNRESET
    with dial(port) as client, target.accept() as server:
        client.sendall(b"again")
        assert read(server, 5) == b"again"
    assert proxy.stats(name)[name]["reset"] == 1


def test_reset_of_one_end_is_passed_on(pair: Pair) -> None:
    client, server = pair
    die(client)
    with pytest.raises(ConnectionResetError):
        server.recv(1)


def test_refusing_link_refuses_new_connections_and_keeps_the_open_ones(
    proxy: Proxy, name: str, port: int, pair: Pair
) -> None:
    client, server = pair
    proxy.refuse(name)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            dial(port)
    client.sendall(b"still here")
    assert read(server, 10) == b"still here"
    proxy.heal(name)
    dial(port).close()


def test_port_of_a_refusing_link_cannot_be_taken_by_others(proxy: Proxy, name: str, port: int) -> None:
    proxy.refuse(name)
    with closing(socket.socket()) as thief, pytest.raises(OSError, match="in use"):
        thief.bind(("127.0.0.1", port))


@pytest.mark.parametrize("trouble", ["none", "delay"])
def test_slow_reader_does_not_grow_memory(proxy: Proxy, name: str, pair: Pair, trouble: str) -> None:
    client, server = pair
    if trouble == "delay":
        proxy.delay(name, 0.05)
    assert proxy.child is not None
    process = psutil.Process(proxy.child.id.pid)
    before = process.memory_info().rss
    client.settimeout(_SHORT)
    sent = 0
    with suppress(TimeoutError):
        while sent < 200_000_000:
            sent += client.send(b"x" * 1_000_000)
    assert sent < 50_000_000, "the sender is held up, since nobody reads"
    assert process.memory_info().rss - before < 30_000_000
    assert len(read(server, sent)) == sent


def test_glob_names_many_links_and_one_that_names_none_is_an_error(running_proxy: Proxy, target: Target) -> None:
    for link in ("agent-0>broker-1", "agent-0>broker-2", "agent-1>broker-1"):
        running_proxy.link(link, target.port)
    assert running_proxy.delay("agent-*>broker-1", 0.1) == ["agent-0>broker-1", "agent-1>broker-1"]
    assert set(running_proxy.stats("agent-0>*")) == {"agent-0>broker-1", "agent-0>broker-2"}
    with pytest.raises(DevstackError, match=r"No link is called agent-9>\*; there are "):
        running_proxy.reset("agent-9>*")
    running_proxy.heal()


def test_healthy_proxy_costs_little(pair: Pair, proxy: Proxy) -> None:
    """Of CPU: a round trip of one small record."""
    client, server = pair
    assert proxy.child is not None
    process = psutil.Process(proxy.child.id.pid)
    before = process.cpu_times()
    rounds = 2000
    for _ in range(rounds):
        client.sendall(b"x" * 200)
        server.sendall(read(server, 200))
        read(client, 200)
    after = process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    assert spent / rounds < 0.000_5


def test_proxy_ends_with_its_test(tmp_path: Path) -> None:
    with Proxy(tmp_path) as proxy:
        assert proxy.child is not None
        child = proxy.child
        proxy.link("any", 1)
    assert child.returncode() is not None


def die(end: socket.socket) -> None:
    """Closes as a process that crashed with unread data would: with RST."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
