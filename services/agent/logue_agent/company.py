"""Whether an agent is alone in its group."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DescribeGroupsRequest

_ANSWER_SECONDS = 2.0
#: Where DescribeGroups has them of each group (Kafka protocol guide).
_MEMBERS = 5


async def has_company(consumer: AIOKafkaConsumer, group: str) -> bool:
    """True when `group`, which `consumer` is in, is known to have other members."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            # No public way: the admin client would need connections of its own.
            answer = await consumer._coordinator._send_req(DescribeGroupsRequest([group]))  # noqa: SLF001
    except (KafkaError, TimeoutError):
        return False
    return len(answer.groups[0][_MEMBERS]) > 1
