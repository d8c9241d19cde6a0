"""Who listens where, always on loopback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from logue_devstack.server import free_ports

_GATEWAYS = 8000
_BASE = 8100
_AGENTS = 10  # after the base


@dataclass(frozen=True, slots=True)
class Ports:
    """One port for every process of the stack."""

    postgres: int
    broker: int
    demo_model: int
    conversations: tuple[int, ...]
    broker_controller: int
    gateways: tuple[int, ...]
    agents: tuple[int, ...]

    @property
    def conversation(self) -> int:
        """Of the first one, or the only one."""
        return self.conversations[0]

    @classmethod
    def standard(cls, gateways: int, agents: int, *, gateway_port: int = _GATEWAYS, base_port: int = _BASE) -> Self:
        """Gateways on 8000, 8001, …; everything else from 8100 up."""
        postgres, broker, demo_model, conversation, controller = range(base_port, base_port + 5)
        return cls(
            postgres,
            broker,
            demo_model,
            (conversation,),
            controller,
            gateways=tuple(range(gateway_port, gateway_port + gateways)),
            agents=tuple(range(base_port + _AGENTS, base_port + _AGENTS + agents)),
        )

    @classmethod
    def random(cls, gateways: int, agents: int, conversations: int = 1) -> Self:
        """Ports that are free now: for tests."""
        postgres, broker, demo_model, controller, *others = free_ports(4 + conversations + gateways + agents)
        return cls(
            postgres,
            broker,
            demo_model,
            tuple(others[:conversations]),
            controller,
            gateways=tuple(others[conversations : conversations + gateways]),
            agents=tuple(others[conversations + gateways :]),
        )
