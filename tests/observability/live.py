"""A running Logue, a Prometheus that scrapes it, and people who use it a little."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import httpx
import yaml
from monitoring.rules import Group, groups
from tests.e2e.client import Client

from logue_devstack.process import Command
from logue_devstack.server import LOOPBACK, Server, free_ports
from logue_devstack.stack import Stack

_DURATION = re.compile(r"(?<=\[)(\d+)([smhd])(?=\])|(?<=offset )(\d+)([smhd])\b")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Prometheus(Server):
    """Scrapes the stack every second, as deploy/prometheus/compose.yml says otherwise."""

    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, program: str, folder: Path, stack: Stack, rules: list[Group], repository: Path) -> None:
        super().__init__("prometheus", free_ports(1)[0])
        self._program = program
        self._folder = folder
        self._http = httpx.Client(base_url=f"http://{LOOPBACK}:{self.port}", timeout=10)
        config = yaml.safe_load((repository / "deploy" / "prometheus" / "compose.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"}
        config["rule_files"] = [str(folder / "rules.yml")]
        ports = {
            "gateway": stack.ports.gateways,
            "agent": stack.ports.agents,
            "conversation": stack.ports.conversations,
        }
        for job in config["scrape_configs"]:
            targets = ports[job["job_name"].removeprefix("logue-")]
            job["static_configs"] = [{"targets": [f"{LOOPBACK}:{port}" for port in targets]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (folder / "rules.yml").write_text(yaml.safe_dump({"groups": rules}))

    def command(self) -> Command:
        argv = [
            self._program,
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{self.port}",
            "--enable-feature=exemplar-storage",
        ]
        return Command(argv=argv, log=self._folder / "prometheus.log")

    def is_ready(self) -> bool:
        try:
            return self._http.get("/-/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def __exit__(self, *_: object) -> None:
        self._http.close()
        super().__exit__()

    def api(self, path: str, **parameters: Any) -> Any:
        """The data of an answer. Raises AssertionError with Prometheus's words."""
        answer = self._http.get(f"/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def values(self, expression: str, at: float | None = None) -> list[float]:
        """Of every series that the expression makes."""
        found = self.api("query", query=expression, **({} if at is None else {"time": at}))
        if found["resultType"] == "scalar":
            return [float(found["result"][1])]
        return [float(series["value"][1]) for series in found["result"]]

    def firing(self) -> set[tuple[str, str]]:
        """Names of alerts that fire, each with its label `job` or "" without."""
        return {
            (alert["labels"]["alertname"], alert["labels"].get("job", ""))
            for alert in self.api("alerts")["alerts"]
            if alert["state"] == "firing"
        }


def quick_rules() -> list[Group]:
    """The rules, evaluated every second."""
    return [{**group, "interval": "1s"} for group in groups()]


def shrunk_rules(factor: float) -> list[Group]:
    """The rules in a world where everything goes so many times as fast: every window, offset and wait is shorter."""

    def shorter(text: str) -> str:
        count, unit = int(text[:-1]), text[-1]
        return f"{max(1, round(count * _SECONDS[unit] * 1000 / factor))}ms"

    def rule(found: dict[str, Any]) -> dict[str, Any]:
        made = {**found, "expr": _DURATION.sub(lambda match: shorter(match[0]), found["expr"])}
        return made | ({"for": shorter(found["for"])} if "for" in found else {})

    return [{**group, "interval": "1s", "rules": [rule(each) for each in group["rules"]]} for group in groups()]


async def use(stack: Stack, *, seconds: float) -> None:
    """People write, read streams, reconnect, stop, and come back to what they wrote, two models answering."""
    async with httpx.AsyncClient(timeout=20) as http:
        users = [
            Client(http, lambda: stack.gateway_urls, user, stack.token(user), random.Random(user))
            for user in ("ann", "ben")
        ]
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.gather(*_doings(users))
        # Whoever has no usable token.
        await http.get(f"{stack.gateway_urls[0]}/api/ann/conversations", headers={"Authorization": "Bearer none"})


def _doings(users: Iterable[Client]) -> Iterable[Any]:
    for user, model in zip(users, ("demo", "demo-2"), strict=True):
        yield _talk(user, model)
        yield user.read("a stream", model=model)
        yield _reconnect(user)
        yield _stop(user)


async def _talk(user: Client, model: str) -> None:
    reply = await user.chat("a question", model=model)
    await user.chat("and another one", model=model, conversation_id=reply["conversation_id"])
    await user.messages(reply["conversation_id"], after_turn=reply["turn_id"])


async def _reconnect(user: Client) -> None:
    stream = user.stream("{{tokens=20 gap=0.02}} long")
    await stream.until(deltas=2)
    assert stream.turn_id is not None
    await user.resume(stream.turn_id, stream.shown).to_end()


async def _stop(user: Client) -> None:
    accepted = await user.ask("{{tokens=2000 gap=0.05}} stop me")
    await user.cancel(accepted["turn_id"])
    await user.ended(accepted["turn_id"])
