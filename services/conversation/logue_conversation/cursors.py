"""Opaque list cursors: the keyset of the last item shown, and which list it belongs to."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

import orjson

from logue_common.errors import ProblemError
from logue_common.ids import is_id

_CONVERSATIONS = "c"
_MESSAGES = "m"


def conversation_cursor(created_at: datetime, conversation_id: str) -> str:
    """The place after this conversation."""
    return _encode([_CONVERSATIONS, created_at.isoformat(), conversation_id])


def read_conversation_cursor(cursor: str) -> tuple[datetime, str]:
    """What `conversation_cursor` was given. Raises ProblemError `validation_error` for anything else."""
    match _decode(cursor):
        case [kind, str(at), str(conversation_id)] if kind == _CONVERSATIONS and is_id(conversation_id):
            try:
                created_at = datetime.fromisoformat(at)
                if created_at.tzinfo is not None:
                    return created_at.astimezone(UTC), conversation_id
            except (ValueError, OverflowError):
                raise _invalid() from None
    raise _invalid()


def message_cursor(sequence: int, position: int) -> str:
    """The place after this message."""
    return _encode([_MESSAGES, sequence, position])


def read_message_cursor(cursor: str) -> tuple[int, int]:
    """What `message_cursor` was given. Raises ProblemError `validation_error` for anything else."""
    match _decode(cursor):
        case [kind, int(sequence), int(position)] if kind == _MESSAGES and 0 <= sequence < 2**63 and position in (0, 1):
            return int(sequence), int(position)
    raise _invalid()


def _encode(parts: list[Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(parts)).rstrip(b"=").decode()


def _decode(cursor: str) -> Any:
    try:
        return orjson.loads(base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error):
        raise _invalid() from None


def _invalid() -> ProblemError:
    detail = "The cursor is not one of this list. Start again without it."
    return ProblemError(
        "validation_error",
        detail,
        errors=[{"path": "cursor", "detail": "is not a cursor of this list", "type": "value_error"}],
    )
