"""`logue logs --turn`: one turn's life across services."""

from __future__ import annotations

import httpx
from typer.testing import CliRunner

from logue_devstack.cli import app
from logue_devstack.process import wait_until
from logue_devstack.stack import Stack


def test_a_turn_is_told_by_every_service_in_order(stack: Stack) -> None:
    answer = httpx.post(
        f"{stack.gateway_urls[0]}/api/user-1/chat",
        json={"message": "a word that no log shows"},
        headers={"Authorization": f"Bearer {stack.token('user-1')}"},
        timeout=30.0,
    ).json()
    command = ["logs", "--turn", answer["turn_id"], "--data-dir", str(stack.data_dir)]

    def told() -> str:
        return CliRunner().invoke(app, command).stdout

    assert wait_until(lambda: "outcome_stored" in told(), 10.0)
    lines = told().splitlines()
    steps = ("turn_accepted", "attempt_started", "turn_decided", "reply_given", "outcome_stored")
    found = [next(step for step in steps if step in line) for line in lines]
    assert sorted(found) == sorted(steps)
    assert [step for step in found if step != "reply_given"] == [step for step in steps if step != "reply_given"]
    assert {line.split()[3] for line in lines} == {"gateway-0", "agent-0", "conversation"}
    assert "no log shows" not in told()
    # The same lines from elsewhere, as kubectl prints them: without names of processes, but with those of services.
    logs = b"".join(file.read_bytes() for file in (stack.data_dir / "logs").glob("*.log"))
    piped = CliRunner().invoke(app, ["logs", "--turn", answer["turn_id"], "--stdin"], input=logs).stdout.splitlines()
    assert [line.split()[4] for line in piped] == [line.split()[4] for line in lines]
    assert {line.split()[3] for line in piped} == {"gateway", "agent", "conversation"}


def test_a_turn_that_nobody_knows_is_said_to_be_unknown(stack: Stack) -> None:
    result = CliRunner().invoke(app, ["logs", "--turn", "no-such-turn", "--data-dir", str(stack.data_dir)])
    assert result.exit_code == 1
    assert "say nothing of turn no-such-turn" in result.output
