"""Does what the stand-in broker leaves undone: it never expires a group member that is dead or frozen.

Apache Kafka drops a member that sends no heartbeat for its session timeout; the stand-in (noida-db 0.2.3) waits for it
for ever, so nobody takes its partitions over. The devstack knows which of its processes died, and lets them leave.
Logue's consumers end their client id in the process id.
"""

from __future__ import annotations

import asyncio

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest

#: As the agents' session timeout: a frozen process is given this long.
SESSION_SECONDS = 6.0
_GROUPS = ("logue-agent", "logue-conversation")
_TIMEOUT_SECONDS = 5.0


def expire_members(bootstrap: str, process_id: int, groups: tuple[str, ...] = _GROUPS) -> int:
    """Let every group member of that process leave its group; returns how many. Never raises for a broker."""
    try:
        return asyncio.run(asyncio.wait_for(expire(bootstrap, process_id, groups), _TIMEOUT_SECONDS))
    except (KafkaError, OSError, TimeoutError):
        return 0


async def expire(bootstrap: str, process_id: int, groups: tuple[str, ...] = _GROUPS) -> int:
    """As `expire_members`, for callers in an event loop. Raises KafkaError."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, client_id="logue-devstack")
    await admin.start()
    try:
        expired = 0
        for group in groups:
            # One at a time: the stand-in's answer about several groups cannot be decoded.
            (described,) = (await admin.describe_consumer_groups([group]))[0].groups
            for member_id, client_id, *_more in described[5]:
                if client_id.endswith(f"-{process_id}"):
                    node = await admin.find_coordinator(group)
                    await admin._send_request(LeaveGroupRequest(group, member_id), node)  # noqa: SLF001
                    expired += 1
        return expired
    finally:
        await admin.close()
