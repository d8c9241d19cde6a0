"""The replicas of one service, replaced as Kubernetes replaces pods: surge, probes, endpoints, preStop, SIGTERM, grace.

    async with Deployment(stack, Manifest.read("gateway"), history, endpoints) as gateways:
        replacements = await gateways.roll_out()

A pod is a process with a name and a port of its own, and never comes back. The next new one starts while the last old
one is still on its way out, as with the controller of Kubernetes, which does not count pods that end.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import aiohttp
from tests.chaos.history import History
from tests.chaos.manifests import Manifest, Probe

from logue_devstack.blueprint import BrokerKind, kind_of
from logue_devstack.errors import DevstackError
from logue_devstack.membership import expire_members
from logue_devstack.process import shown, tail
from logue_devstack.server import free_ports
from logue_devstack.service import Service
from logue_devstack.stack import Stack

#: The part of its preStop after which proxies know that a pod goes away: 1 s of 10.
_LEARNED_AFTER = 0.1
_LOOK_SECONDS = 0.05
#: Whoever is not ready after this long never will be.
_READY_SECONDS = 120.0


@dataclass(slots=True)
class Replacement:
    """One pod for another; times are those of the history."""

    kind: str
    old: str
    new: str
    #: The new process starts, and is ready.
    began: float
    ready: float
    #: SIGTERM for the old one, and its end.
    stopped: float = 0.0
    ended: float = 0.0
    #: Whether it ended by itself, within its grace period.
    in_time: bool = False


@dataclass(slots=True, eq=False)
class Pod:
    """One process, as the kubelet sees it."""

    server: Service
    is_ready: bool = False
    probing: asyncio.Task[None] | None = None


class Deployment:
    """Those of a stack's processes that are of `manifest.kind`, and all that follow them.

    `endpoints` is told the ports that are to get new connections, whenever these change.
    """

    def __init__(
        self, stack: Stack, manifest: Manifest, history: History, endpoints: Callable[[Sequence[int]], object]
    ) -> None:
        self._stack = stack
        self._manifest = manifest
        self._history = history
        self._endpoints = endpoints
        self._blueprint = stack.blueprint
        self._pods: list[Pod] = []
        self._publishing = asyncio.Lock()
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        for name in self._stack.names:
            server = self._stack.server(name)
            if kind_of(name) == self._manifest.kind and isinstance(server, Service):
                self._add(Pod(server, is_ready=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        for pod in self._pods:
            if pod.probing is not None:
                pod.probing.cancel()
        await asyncio.gather(*(asyncio.to_thread(pod.server.stop) for pod in self._pods))
        await self._http.close()

    async def roll_out(self) -> list[Replacement]:
        """Replace every pod; returns when the last old one is gone. Raises DevstackError when a new one ends."""
        done = []
        async with asyncio.TaskGroup() as ending:
            for old in list(self._pods):
                began = self._history.now()
                new = await self._start()
                await self._until_ready(new)
                replacement = Replacement(
                    self._manifest.kind, old.server.name, new.server.name, began, self._history.now()
                )
                done.append(replacement)
                await asyncio.sleep(self._manifest.min_ready_seconds)
                await self._until_ready(new)
                ending.create_task(self._end(old, replacement))
        return done

    # A pod's life

    async def _start(self) -> Pod:
        """A new process, one number higher than the last."""
        kind = self._manifest.kind
        ports = self._blueprint.ports
        one_more = {f"{kind}s": (*getattr(ports, f"{kind}s"), *free_ports(1))}
        self._blueprint = replace(self._blueprint, ports=replace(ports, **one_more))
        pod = Pod([server for server in self._blueprint.services() if kind_of(server.name) == kind][-1])
        await asyncio.to_thread(pod.server.launch)
        self._add(pod)
        return pod

    async def _until_ready(self, pod: Pod) -> None:
        give_up_at = self._history.now() + _READY_SECONDS
        while not pod.is_ready:
            log = self._stack.log(pod.server.name)
            if not pod.server.is_running:
                raise DevstackError(f"{pod.server.name} ended; see {shown(log)}.\n{tail(log)}")
            if self._history.now() > give_up_at:
                raise DevstackError(f"{pod.server.name} is not ready; see {shown(log)}.\n{tail(log)}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _end(self, pod: Pod, replacement: Replacement) -> None:
        """No new connections, preStop, SIGTERM, and SIGKILL at the end of the grace period."""
        manifest = self._manifest
        await asyncio.sleep(manifest.pre_stop_seconds * _LEARNED_AFTER)
        if pod.probing is not None:
            pod.probing.cancel()
        self._pods.remove(pod)
        await self._publish()
        await asyncio.sleep(manifest.pre_stop_seconds * (1 - _LEARNED_AFTER))
        child = pod.server.child
        if child is None:
            raise DevstackError(f"{pod.server.name} was never started.")
        replacement.stopped = self._history.now()
        patience = manifest.grace_seconds - manifest.pre_stop_seconds
        replacement.in_time = await asyncio.to_thread(child.stop, signal.SIGTERM, patience)
        replacement.ended = self._history.now()
        if self._blueprint.broker is BrokerKind.NOIDA:
            await asyncio.to_thread(expire_members, self._stack.kafka_bootstrap, child.id.pid)

    # What the kubelet and the proxies do

    def _add(self, pod: Pod) -> None:
        self._pods.append(pod)
        pod.probing = asyncio.create_task(self._probe(pod), name=f"probes of {pod.server.name}")

    async def _probe(self, pod: Pod) -> None:
        """The startup probe until it passes once, then the readiness probe for as long as the pod is wanted."""
        startup, readiness = self._manifest.startup, self._manifest.readiness
        while not pod.is_ready and not await self._passes(pod, startup):
            await asyncio.sleep(startup.period_seconds)
        failures = 0
        while True:
            failures = 0 if await self._passes(pod, readiness) else failures + 1
            is_ready = failures < readiness.failures if pod.is_ready else not failures
            if pod.is_ready != is_ready:
                pod.is_ready = is_ready
                await self._publish()
            await asyncio.sleep(readiness.period_seconds)

    async def _passes(self, pod: Pod, probe: Probe) -> bool:
        timeout = aiohttp.ClientTimeout(total=probe.timeout_seconds)
        try:
            async with self._http.get(f"{pod.server.url}{probe.path}", timeout=timeout) as answer:
                return answer.status < 400
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def _publish(self) -> None:
        async with self._publishing:
            ports = [pod.server.port for pod in self._pods if pod.is_ready]
            await asyncio.to_thread(self._endpoints, ports)
