"""Lets aiokafka notice under uvloop that a connection is gone.

There a write to a transport that was closed raises RuntimeError, where the loop of the standard library says nothing.
aiokafka 0.14 catches OSError only (github.com/aio-libs/aiokafka/issues/1038). When the task that keeps a client's
metadata fresh meets it, that task ends, and what waits for metadata waits for ever: rebalances, coordinators, sends.
"""

from __future__ import annotations

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_send = AIOKafkaConnection.send


def notice_lost_connections() -> None:
    """From here on, sending over a connection that is gone raises KafkaConnectionError."""
    AIOKafkaConnection.send = _checked_send


def _checked_send(connection: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    try:
        return _send(connection, request, expect_response)
    except NotImplementedError:  # no version of the request that this broker knows
        raise
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {connection.host}:{connection.port} lost") from error
