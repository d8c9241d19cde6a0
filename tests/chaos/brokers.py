"""Three Apache Kafka nodes on one machine, wired so that every connection between two parts passes a link of its own.

A broker tells its clients where to find each broker, so each client has a listener of its own at each of them, whose
advertised port is that of the link. The same goes for the brokers among themselves: each names another listener as the
one that it uses at the others (`inter.broker.listener.name`, the first of `controller.listener.names`).

All three are broker and controller. A fourth process for the controller would survive when two brokers are killed, but
change nothing that a user sees: with two of three replicas gone no write reaches min.insync.replicas. Small clusters
are run this way, and here it saves a JVM. Writes stop until two are back, and then go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.proxy import Proxy

from logue_devstack.apache_kafka import ApacheKafka, broker_settings, new_cluster_id
from logue_devstack.blueprint import Blueprint
from logue_devstack.server import LOOPBACK, free_ports

NODES = (1, 2, 3)
_DIRECT = "DIRECT"
#: Less compilation for processes that live for minutes and start often: 2.2 s of CPU to the first record, not 3.5 s.
_JVM_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")


@dataclass(frozen=True, slots=True)
class Listener:
    """One of a node's; clients are told another port where there is a link."""

    name: str
    port: int
    advertised_port: int


class Brokers:
    """How the nodes are reached. Makes a link for each of `clients` (processes by name), and between the brokers."""

    def __init__(self, proxy: Proxy, clients: Sequence[str], *, settings: Mapping[str, str], heap_mib: int) -> None:
        self._settings = settings
        self._heap_mib = heap_mib
        self._cluster_id = new_cluster_id()
        self._listeners = {node: _listeners(proxy, node, clients) for node in NODES}
        self._proxy = proxy

    def bootstrap(self, client: str) -> str:
        """All the brokers, as this client is to reach them."""
        return ",".join(f"{LOOPBACK}:{self._proxy.port_of(f'{client}>broker-{node}')}" for node in NODES)

    def servers(self, blueprint: Blueprint) -> list[ApacheKafka]:
        """The nodes, for the blueprint; their `port` is the one without a link."""
        return [
            ApacheKafka(
                blueprint.store / f"broker-{node}",
                next(listener.port for listener in self._listeners[node] if listener.name == _DIRECT),
                name=f"broker-{node}",
                settings=self._server_properties(node),
                cluster_id=self._cluster_id,
                heap_mib=self._heap_mib,
                jvm_options=_JVM_OPTIONS,
                log=blueprint.log(f"broker-{node}"),
                stopping=blueprint.stopping,
            )
            for node in NODES
        ]

    def _server_properties(self, node: int) -> dict[str, str]:
        listeners = self._listeners[node]
        own_first = sorted(NODES, key=lambda other: other != node)
        return {
            **broker_settings(0, 0),
            "node.id": str(node),
            "controller.quorum.voters": ",".join(self._voter(other, seen_by=node) for other in NODES),
            "controller.listener.names": ",".join(_controller(other) for other in own_first),
            "inter.broker.listener.name": _peer(node),
            "listeners": ",".join(f"{each.name}://{LOOPBACK}:{each.port}" for each in listeners),
            "advertised.listeners": ",".join(f"{each.name}://{LOOPBACK}:{each.advertised_port}" for each in listeners),
            "listener.security.protocol.map": ",".join(f"{each.name}:PLAINTEXT" for each in listeners),
            # Every listener has threads of its own, and there are many.
            "num.network.threads": "1",
            "num.io.threads": "4",
            "default.replication.factor": "3",
            "min.insync.replicas": "2",
            "offsets.topic.replication.factor": "3",
            "transaction.state.log.replication.factor": "3",
            "transaction.state.log.min.isr": "2",
            "share.coordinator.state.topic.replication.factor": "3",
            "share.coordinator.state.topic.min.isr": "2",
            **self._settings,
        }

    def _voter(self, node: int, *, seen_by: int) -> str:
        listener = next(each for each in self._listeners[node] if each.name == _controller(seen_by))
        return f"{node}@{LOOPBACK}:{listener.advertised_port}"


def _listeners(proxy: Proxy, node: int, clients: Sequence[str]) -> list[Listener]:
    others = [other for other in NODES if other != node]
    links = {client.upper().replace("-", "_"): f"{client}>broker-{node}" for client in clients}
    links |= {_peer(other): f"broker-{other}>broker-{node}" for other in others}
    links |= {_controller(other): f"broker-{other}>broker-{node}:controller" for other in others}
    names = [_DIRECT, _peer(node), _controller(node), *links]
    return [
        Listener(name, port, proxy.link(links[name], port) if name in links else port)
        for name, port in zip(names, free_ports(len(names)), strict=True)
    ]


def _peer(node: int) -> str:
    """The listener at which node `node` fetches from this one."""
    return f"BROKER_{node}"


def _controller(node: int) -> str:
    """The listener at which node `node` reaches this one's controller."""
    return f"CONTROLLER_{node}"
