"""The running system that the e2e tests talk to, and what disturbs it."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from logue_devstack.blueprint import BrokerKind
from logue_devstack.stack import Stack

_VICTIMS = ("gateway-0", "agent-0", "gateway-1", "agent-1", "conversation")
_KILL_EVERY_SECONDS = 6.0
_DOWN_SECONDS = 0.5


class World:
    """A stack with two gateways and two agents; `disturbed` if its processes are killed all the time."""

    def __init__(self, data_dir: Path, broker: BrokerKind, seed: int, *, disturbed: bool) -> None:
        self.broker = broker
        self.disturbed = disturbed
        self.choice = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self._data_dir = data_dir
        self._calm = threading.Lock()
        self._over = threading.Event()
        self._trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._disturb, name="disturbance", daemon=True)
        self.stack = self._new_stack()

    def start(self) -> None:
        self.stack.start()
        if self.disturbed:
            self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self.stack.stop()

    def restart(self) -> None:
        """Everything ends and starts again on the same data and ports."""
        self.stack.stop()
        self.stack = self._new_stack()
        self.stack.start()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Nothing is killed meanwhile but by the test itself; everything is ready before and after."""
        with self._calm:
            self.stack.wait_ready()
            try:
                yield
            finally:
                self.stack.wait_ready()

    def check(self) -> None:
        """Raises what went wrong in the background."""
        if self._trouble is not None:
            raise RuntimeError("The disturbance itself failed.") from self._trouble

    def model_calls(self, message: str) -> int:
        """How often the model was asked this."""
        return int(self._demo_calls()["by_message"].get(message, 0))

    def all_model_calls(self) -> int:
        return int(self._demo_calls()["total"])

    @property
    def agent_kills(self) -> int:
        return sum(count for name, count in self.kills.items() if name.startswith("agent"))

    def _demo_calls(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.stack.demo_model_url}/demo/calls").json()
        return found

    def _new_stack(self) -> Stack:
        # A PostgreSQL that may lose what it committed (fast_postgres) would not be the one that is promised.
        ports = self.stack.ports if hasattr(self, "stack") else None
        return Stack(self._data_dir, broker=self.broker, gateways=2, agents=2, ports=ports)

    def _disturb(self) -> None:
        try:
            for victim in itertools.cycle(_VICTIMS):
                if self._over.wait(_KILL_EVERY_SECONDS):
                    return
                with self._calm:
                    self.kills[victim] += 1
                    self.stack.kill(victim, restart=False)
                    self._over.wait(_DOWN_SECONDS)
                    self.stack.start_one(victim)
        except BaseException as error:  # noqa: BLE001 (told to the test that runs)
            self._trouble = error
