"""The error tree, and the one shape in which errors leave Logue (RFC 9457).

LogueError
├── ProblemError           has an HTTP status and a stable code: becomes a Problem
├── UnreadableRecordError  a Kafka record that no consumer can read: goes to chat.dlq
└── StartupError           the process cannot run as configured; the sentence says what to change
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

PROBLEM_JSON = "application/problem+json"
_TYPE_PREFIX = "urn:logue:problem:"


class Problem(BaseModel):
    """A problem object (RFC 9457) as API.md describes it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    correlation_id: str | None = None
    errors: list[dict[str, Any]] | None = None


#: code → (HTTP status, title, worth retrying as it is)
PROBLEMS: dict[str, tuple[int, str, bool]] = {
    "bad_request": (400, "Bad request", False),
    "unauthorized": (401, "Not authenticated", False),
    "forbidden": (403, "Not allowed", False),
    "not_found": (404, "Not found", False),
    "conversation_not_found": (404, "Conversation not found", False),
    "turn_not_found": (404, "Turn not found", False),
    "message_not_found": (404, "Message not found", False),
    "method_not_allowed": (405, "Method not allowed", False),
    "request_timeout": (408, "Request took too long to arrive", True),
    "not_ready": (409, "Not ready yet", True),
    "idempotency_mismatch": (409, "Idempotency key used for another request", False),
    "conversation_busy": (409, "Conversation is busy", True),
    "turn_finished": (409, "Turn is over", False),
    "payload_too_large": (413, "Request body too large", False),
    "unsupported_media_type": (415, "Not JSON", False),
    "validation_error": (422, "Request is not valid", False),
    "head_too_large": (431, "Request head too large", False),
    "rate_limited": (429, "Too many requests", True),
    "internal_error": (500, "Internal error", True),
    "model_error": (502, "The model failed", True),
    "overloaded": (503, "Overloaded", True),
    "unavailable": (503, "Temporarily unavailable", True),
    "accept_unknown": (503, "Acceptance unknown", True),
    "context_unavailable": (503, "Conversation history unavailable", True),
    "turn_expired": (504, "Turn expired", True),
    "turn_lost": (500, "Turn lost", True),
    "model_timeout": (504, "The model took too long", True),
}


def problem(code: str, detail: str, **fields: Any) -> Problem:
    """The problem object of a known `code`. `detail` is a sentence that tells a person what to do."""
    status, title, retryable = PROBLEMS[code]
    return Problem(
        type=_TYPE_PREFIX + code, title=title, status=status, detail=detail, code=code, retryable=retryable, **fields
    )


class LogueError(Exception):
    """Root of every error that Logue raises itself."""


class ProblemError(LogueError):
    """An error with an HTTP status and a stable code."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = problem(code, detail, errors=errors)
        self.headers = headers or {}

    @property
    def code(self) -> str:
        """The stable code, `conversation_not_found` for instance."""
        return self.problem.code

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status


class UnreadableRecordError(LogueError):
    """A Kafka record that cannot be decoded; it belongs in chat.dlq."""


class StartupError(LogueError):
    """The process cannot run as it is configured."""
