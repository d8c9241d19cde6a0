"""Errors of this service.

LogueError
├── StoreUnavailableError   PostgreSQL cannot answer now: retried, or 503 `unavailable`
├── LogUnavailableError     Kafka cannot answer now: retried, or 503 `unavailable`
├── DataRejectedError       PostgreSQL refuses what a record says (SQLSTATE classes 22 and 23): chat.dlq
└── InterruptedWorkError    the process ends before the work was done; nothing of it was committed
"""

from __future__ import annotations

from logue_common.errors import LogueError


class StoreUnavailableError(LogueError):
    """PostgreSQL cannot be reached, is overloaded, or refuses for a reason that is not in the data."""


class LogUnavailableError(LogueError):
    """Kafka cannot be asked now."""


class DataRejectedError(LogueError):
    """PostgreSQL refuses the data. `error_class` names why, `text` holds no more than the server's first line."""

    def __init__(self, sqlstate: str, text: str, constraint: str | None = None) -> None:
        super().__init__(f"{sqlstate}: {text}")
        self.sqlstate = sqlstate
        self.text = text
        self.constraint = constraint


class InterruptedWorkError(LogueError):
    """The process was asked to end; offsets stay uncommitted, so the work is done by whoever comes next."""
