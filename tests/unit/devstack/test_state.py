from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import jwt
import pytest

from logue_devstack.chat import Event, parse_events
from logue_devstack.credentials import load_credentials
from logue_devstack.errors import DevstackError
from logue_devstack.ports import Ports
from logue_devstack.process import Command, ProcessId, spawn
from logue_devstack.server import free_ports
from logue_devstack.state import ProcessEntry, StackLock, StackState, end_leftovers
from logue_devstack.watcher import Backoff


def test_secrets_are_made_once_and_readable_only_by_their_user(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secrets.json"
    first = load_credentials(path)
    assert load_credentials(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(set(first.model_dump().values())) == len(first.model_dump())
    assert all(len(secret) >= 32 for secret in first.model_dump().values())


def test_secret_that_an_older_file_lacks_is_added_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps({"jwt_secret": "kept" * 10}))
    credentials = load_credentials(path)
    assert credentials.jwt_secret == "kept" * 10
    assert load_credentials(path) == credentials


def test_damaged_secrets_are_reported_and_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text("{")
    with pytest.raises(DevstackError, match="damaged"):
        load_credentials(path)
    assert path.read_text() == "{"


def test_token_carries_what_the_gateway_requires(tmp_path: Path) -> None:
    credentials = load_credentials(tmp_path / "secrets.json")
    claims = jwt.decode(credentials.token("alice"), credentials.jwt_secret, algorithms=["HS256"])
    assert claims["sub"] == "alice"
    assert claims["exp"] - claims["iat"] == 24 * 3600


def test_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    own = ProcessId(os.getpid(), 1.5)
    state = StackState(own, "noida", ["http://127.0.0.1:8000"], {"broker": ProcessEntry(own, 8101, "x.log")})
    state.write(tmp_path / "state.json")
    assert StackState.read(tmp_path / "state.json") == state


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"supervisor": 1}'])
def test_unreadable_state_is_no_state(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    assert StackState.read(tmp_path / "state.json") is None
    assert StackState.read(tmp_path / "absent.json") is None


def test_second_stack_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with (
        StackLock(tmp_path),
        pytest.raises(DevstackError, match=f"already runs.*process {os.getpid()}"),
        StackLock(tmp_path),
    ):
        pass
    with StackLock(tmp_path):
        pass


def test_only_the_processes_of_the_state_file_are_ended(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    ours, other = (spawn(Command(argv=argv, log=tmp_path / f"{name}.log")) for name in ("ours", "other"))
    reused = ProcessId(other.id.pid, other.id.started - 60)
    entries = {"agent-0": ProcessEntry(ours.id, 1, ""), "agent-1": ProcessEntry(reused, 2, "")}
    try:
        assert end_leftovers(StackState(reused, "noida", [], entries)) == ["agent-0"]
        assert ours.returncode() is not None
        assert other.returncode() is None
    finally:
        other.kill()
        ours.kill()


def test_standard_ports_are_those_of_the_design() -> None:
    ports = Ports.standard(gateways=2, agents=2)
    assert ports.gateways == (8000, 8001)
    assert (ports.postgres, ports.broker, ports.demo_model, ports.conversation) == (8100, 8101, 8102, 8103)
    assert ports.agents == (8110, 8111)


def test_random_ports_are_all_different() -> None:
    ports = Ports.random(gateways=3, agents=3, conversations=2)
    every = [ports.postgres, ports.broker, ports.demo_model, *ports.conversations, ports.broker_controller]
    assert ports.conversation == ports.conversations[0]
    assert len({*every, *ports.gateways, *ports.agents}) == 12


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: the range of outgoing ports")
def test_free_port_is_none_that_an_outgoing_connection_may_take() -> None:
    first, last = (int(n) for n in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not [port for port in free_ports(50) if first <= port <= last]


def test_backoff_grows_and_is_forgiven_after_a_stable_time() -> None:
    backoff = Backoff()
    assert [backoff.delay(now) for now in (100.0, 101.0, 103.0, 106.0, 111.0, 120.0, 136.0)] == [
        0.5, 1, 2, 4, 8, 15, 15,
    ]  # fmt: skip
    assert backoff.delay(200.0) == 0.5


def test_sse_lines_become_events() -> None:
    body = b'retry: 1000\n\n: ping\n\nevent: message.delta\nid: 3.4\ndata: {"delta": "a: b"}\n\nevent: cut\n'
    assert list(parse_events(iter(body.splitlines(keepends=True)))) == [
        Event("message.delta", "3.4", {"delta": "a: b"})
    ]


def test_no_port_is_given_out_twice() -> None:
    given = [port for _ in range(10) for port in free_ports(100)]
    assert len(set(given)) == len(given)
