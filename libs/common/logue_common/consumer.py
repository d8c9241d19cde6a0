"""What aiokafka's consumers need besides: cheap fetches, a membership that lasts, and a safe end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from logue_common import metrics
from logue_common.fetch_pacing import pace_fetches
from logue_common.fetch_sessions import use_fetch_sessions

_log = structlog.get_logger(__name__)

#: Leaving a group that is being rebalanced may never be answered.
_STOP_SECONDS = 5.0
_STOP_CHECK_SECONDS = 0.25
#: How long each step may take when that did not work.
_GIVE_UP_SECONDS = 1.0

#: Offsets are committed at least this often, moved or not: a member that the group has lost notices by that.
COMMIT_ANYWAY_SECONDS = 10.0
#: A member that cannot commit for so long connects anew.
CUT_OFF_SECONDS = 25.0


def tune_fetches(consumer: AIOKafkaConsumer) -> None:
    """Let a started `consumer` fetch at the least cost that its broker allows."""
    pace_fetches(consumer)
    use_fetch_sessions(consumer)


async def commit(consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, Any]) -> None:
    """`consumer.commit`, but a member whose commit is refused for its generation rejoins as the one that it was.

    aiokafka forgets its member id then and joins as a stranger; the group waits for the old member meanwhile. Apache
    Kafka drops that one at its session's end. The stand-in refuses commits as soon as a rebalance begins, and when the
    stranger had been the leader the group never gets over it. Raises what `consumer.commit` raises.
    """
    coordinator = consumer._coordinator  # noqa: SLF001
    # Commits overlap (the regular one, and the last one before partitions go): the last to end takes the patch off.
    coordinator.commits_in_flight = getattr(coordinator, "commits_in_flight", 0) + 1
    # A member that the broker does not know any more learns that when it rejoins.
    coordinator.reset_generation = coordinator.request_rejoin
    try:
        await consumer.commit(dict(offsets))
    finally:
        coordinator.commits_in_flight -= 1
        if not coordinator.commits_in_flight:
            coordinator.__dict__.pop("reset_generation", None)


def show_lag(consumer: AIOKafkaConsumer | None, positions: Mapping[TopicPartition, int]) -> None:
    """Set the gauge of the lag: what lies between `positions` (the next offset to do) and the known ends."""
    metrics.CONSUMER_LAG.clear()
    if consumer is None:
        return
    assigned = consumer.assignment()
    for partition, position in positions.items():
        end = consumer.highwater(partition) if partition in assigned else None
        if end is not None:
            metrics.CONSUMER_LAG.labels(partition.topic, str(partition.partition)).set(max(0, end - position))


class CommitWatch:
    """Notices a member that its group has lost, or whose client waits for something that does not come."""

    def __init__(self) -> None:
        self._committed_at = time.monotonic()

    def committed(self) -> None:
        """The group took a commit, or this member in."""
        self._committed_at = time.monotonic()

    @property
    def age_seconds(self) -> float:
        """Since then."""
        return time.monotonic() - self._committed_at

    @property
    def is_due(self) -> bool:
        """True when something should be committed although nothing moved."""
        return self.age_seconds > COMMIT_ANYWAY_SECONDS

    def require_member(self) -> None:
        """Raises KafkaError, which makes its caller connect anew, when nothing could be committed for too long."""
        if self.age_seconds > CUT_OFF_SECONDS:
            raise KafkaError(f"nothing could be committed for {CUT_OFF_SECONDS:.0f} s")


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop `consumer`, whatever becomes of it, in a few seconds, and leave nothing of it behind.

    aiokafka's `stop` may wait for ever: when partitions were just assigned, its cancellation of the fetch loop meets
    the cancellation of the old fetches, which swallow it. So the loop is cancelled until it ends. And a group that is
    being rebalanced may never answer to a member that leaves.

    In a task of its own: with a broker away, aiokafka lets the cancellation of its own fetches escape from `stop`,
    which would look like a cancellation of ours.
    """
    stopping = asyncio.create_task(consumer.stop())
    for _ in range(round(_STOP_SECONDS / _STOP_CHECK_SECONDS)):
        done, _ = await asyncio.wait({stopping}, timeout=_STOP_CHECK_SECONDS)
        if done:
            break
        fetcher = consumer._fetcher  # noqa: SLF001
        if fetcher is not None and fetcher._closed:  # noqa: SLF001
            fetcher._fetch_task.cancel()  # noqa: SLF001
    if not stopping.done():
        stopping.cancel()
        _log.warning("consumer_not_stopped")
        await _give_up(consumer)
    elif stopping.cancelled() or stopping.exception() is not None:  # halfway
        cause = "cancelled" if stopping.cancelled() else type(stopping.exception()).__name__
        _log.warning("consumer_not_stopped", cause=cause)
        await _give_up(consumer)


async def _give_up(consumer: AIOKafkaConsumer) -> None:
    """Leave nothing behind of a consumer that cannot be stopped; its heartbeats would go on for ever."""
    coordinator, fetcher = consumer._coordinator, consumer._fetcher  # noqa: SLF001
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task")
    tasks = {task for name in names if (task := getattr(coordinator, name, None)) is not None}
    if fetcher is not None:
        tasks |= {fetcher._fetch_task, *fetcher._pending_tasks}  # noqa: SLF001
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_GIVE_UP_SECONDS)
    if hasattr(coordinator, "_maybe_leave_group"):
        await _briefly(coordinator._maybe_leave_group())  # noqa: SLF001
    await _briefly(consumer._client.close())  # noqa: SLF001


async def _briefly(step: Coroutine[Any, Any, object]) -> None:
    with contextlib.suppress(TimeoutError, KafkaError, OSError):
        async with asyncio.timeout(_GIVE_UP_SECONDS):
            await step
