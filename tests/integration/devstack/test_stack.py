"""The stack supervises: it starts everything, notices deaths, ends all and only what it started."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from logue_devstack.errors import DevstackError
from logue_devstack.process import ProcessId, wait_until
from logue_devstack.server import port_answers
from logue_devstack.stack import Stack
from logue_devstack.state import StackState

WAIT_SECONDS = 15.0


@pytest.fixture(scope="module")
def reports() -> list[str]:
    return []


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, stand_ins: dict[str, str], reports: list[str]) -> Iterator[Stack]:
    """Two gateways and two agents, shared by the tests of this file: each leaves it complete."""
    with Stack(
        tmp_path_factory.mktemp("stack"),
        gateways=2,
        agents=2,
        fast_postgres=True,
        environment=stand_ins,
        service_environment={"agent": {"FOR_AGENTS": "1"}, "agent-1": {"FOR_ONE": "1"}},
        report=reports.append,
    ) as running:
        yield running


def process_of(stack: Stack, name: str) -> ProcessId:
    child = stack.server(name).child
    assert child is not None
    return child.id


def environment_of(stack: Stack, name: str) -> dict[str, str]:
    url = f"http://127.0.0.1:{stack.server(name).port}/environment"
    with urllib.request.urlopen(url, timeout=5) as response:
        found: dict[str, str] = json.load(response)
    return found


def test_everything_is_there(stack: Stack) -> None:
    assert stack.names == [
        *("postgres", "broker", "demo-model", "conversation", "agent-0", "agent-1", "gateway-0", "gateway-1")
    ]
    assert all(stack.server(name).is_ready() for name in stack.names)
    assert len(stack.gateway_urls) == 2


def test_state_file_names_every_process(stack: Stack) -> None:
    state = StackState.read(stack.data_dir / "state.json")
    assert state is not None
    assert {name: entry.id for name, entry in state.processes.items()} == {
        name: process_of(stack, name) for name in stack.names
    }


def test_each_service_gets_only_its_own_secrets_and_overrides(stack: Stack) -> None:
    agent_0, agent_1 = environment_of(stack, "agent-0"), environment_of(stack, "agent-1")
    gateway, conversation = environment_of(stack, "gateway-1"), environment_of(stack, "conversation")
    assert agent_0["OPENAI_BASE_URL"] == f"{stack.demo_model_url}/v1"
    assert ("FOR_AGENTS" in agent_0, "FOR_ONE" in agent_0, "FOR_ONE" in agent_1) == (True, False, True)
    assert gateway["LOGUE_GATEWAY_INDEX"] == "1"
    assert "LOGUE_DATABASE_URL" in conversation
    assert not {"LOGUE_DATABASE_URL", "LOGUE_DATABASE_OWNER_URL"} & {*agent_0, *gateway}
    assert "LOGUE_DATABASE_OWNER_URL" not in conversation
    assert "LOGUE_JWT_SECRET" not in {*agent_0, *conversation}


def test_killed_service_comes_back_and_the_terminal_says_so(stack: Stack, reports: list[str]) -> None:
    before = process_of(stack, "agent-0")
    stack.kill("agent-0")
    assert wait_until(lambda: process_of(stack, "agent-0") != before, WAIT_SECONDS)
    stack.wait_ready("agent-0")
    assert any(line.startswith("! agent-0 ended (exit code -9)") for line in reports)


def test_service_killed_for_good_stays_down_until_it_is_started(stack: Stack) -> None:
    stack.kill("gateway-1", restart=False)
    assert not wait_until(lambda: stack.server("gateway-1").is_running, 1.5)
    stack.start_one("gateway-1")
    assert stack.server("gateway-1").is_ready()


def test_killed_broker_and_database_come_back(stack: Stack) -> None:
    for name in ("broker", "postgres"):
        before = process_of(stack, name)
        stack.kill(name)
        assert wait_until(lambda name=name, before=before: process_of(stack, name) != before, WAIT_SECONDS)  # type: ignore[misc]
        stack.wait_ready(name)


def test_restart_gives_a_new_process(stack: Stack) -> None:
    before = process_of(stack, "conversation")
    stack.restart("conversation")
    assert process_of(stack, "conversation") != before
    assert stack.server("conversation").is_ready()


def test_paused_service_does_not_answer_and_is_not_restarted(stack: Stack) -> None:
    before = process_of(stack, "agent-1")
    stack.pause("agent-1")
    assert not stack.server("agent-1").is_ready()
    stack.resume("agent-1")
    stack.wait_ready("agent-1")
    assert process_of(stack, "agent-1") == before


def test_unknown_name_is_refused(stack: Stack) -> None:
    with pytest.raises(DevstackError, match="no process agent-7, only postgres"):
        stack.kill("agent-7")


def test_second_stack_on_the_same_data_is_refused(stack: Stack) -> None:
    with pytest.raises(DevstackError, match="already runs"):
        Stack(stack.data_dir).start()
    assert stack.server("gateway-0").is_ready()


def test_stop_ends_every_process(tmp_path: Path, stand_ins: dict[str, str]) -> None:
    stack = Stack(tmp_path, fast_postgres=True, environment=stand_ins)
    stack.start()
    processes = [process_of(stack, name) for name in stack.names]
    stack.stop()
    assert not any(process.is_alive() for process in processes)
    assert not (tmp_path / "state.json").exists()


def test_failed_start_leaves_nothing_running(tmp_path: Path, stand_ins: dict[str, str]) -> None:
    stack = Stack(tmp_path, fast_postgres=True, environment={**stand_ins, "FAIL_MIGRATIONS": "1"})
    with pytest.raises(DevstackError, match=r"(?s)migrations failed.*told to fail"):
        stack.start()
    assert not port_answers(stack.ports.postgres)
    assert not port_answers(stack.ports.broker)


def test_service_that_ends_during_its_start_is_named(tmp_path: Path, stand_ins: dict[str, str]) -> None:
    stack = Stack(
        tmp_path,
        fast_postgres=True,
        environment=stand_ins,
        service_environment={"agent-0": {"LOGUE_AGENT_PORT": "no number"}},
    )
    with pytest.raises(DevstackError, match="agent-0 ended during its start"):
        stack.start()
