"""The tables, as SQLAlchemy Core knows them. The migrations make them; a test compares the two.

Every primary key starts with user_id. `log_positions` is the exception: it holds no user's data.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from logue_conversation.escaping import escape, unescape

#: `tombstones.conversation_id` of a whole user's erasure.
WHOLE_USER = "00000000-0000-0000-0000-000000000000"
#: The constraint that a record violates whose conversation is another user's.
ISOLATION_CONSTRAINT = "conversations_one_owner"


class EscapedText(TypeDecorator[str]):
    """text that may hold U+0000."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Escapes."""
        return None if value is None else escape(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Unescapes."""
        return None if value is None else unescape(value)


def _id() -> Uuid[str]:
    return Uuid(as_uuid=False)


def _time() -> DateTime:
    return DateTime(timezone=True)


def _json() -> JSONB:
    """None is NULL. What PostgreSQL cannot hold is escaped by the engine (`database.make_engine`)."""
    return JSONB(none_as_null=True)


metadata = MetaData()

conversations = Table(
    "conversations",
    metadata,
    Column("user_id", Text, nullable=False),
    Column("id", _id(), nullable=False),
    Column("title", EscapedText),
    Column("archived", Boolean, nullable=False, server_default=text("false")),
    Column("metadata", _json(), nullable=False, server_default=text("'{}'::jsonb")),
    #: NULL: a stub that an outcome or an attempt made before the request came; nobody sees it.
    Column("created_at", _time()),
    Column("updated_at", _time()),
    #: The sequence of the conversation's latest turn.
    Column("last_sequence", BigInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("user_id", "id", name="conversations_pkey"),
    UniqueConstraint("id", name=ISOLATION_CONSTRAINT),
    CheckConstraint("user_id <> ''", name="conversations_user_id"),
    Index("conversations_newest", "user_id", "created_at", "id", postgresql_where=text("created_at IS NOT NULL")),
)

turns = Table(
    "turns",
    metadata,
    Column("user_id", Text, nullable=False),
    Column("id", _id(), nullable=False),
    Column("conversation_id", _id(), nullable=False),
    #: Place in the conversation, in log order; NULL until the request is stored.
    Column("sequence", BigInteger),
    Column("status", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    #: Number of the end frame within `attempt`; NULL while the turn is live.
    Column("n", Integer),
    #: Parent of the user message.
    Column("parent_id", _id()),
    Column("user_message_id", _id()),
    #: The stored reply, if there is one.
    Column("reply_message_id", _id()),
    Column("requested_at", _time()),
    Column("started_at", _time()),
    Column("first_token_at", _time()),
    Column("finished_at", _time()),
    Column("model", EscapedText),
    Column("usage", _json()),
    Column("error", _json()),
    Column("reply_to", _json()),
    Column("fingerprint", EscapedText),
    Column("metadata", _json()),
    Column("request_partition", Integer),
    #: Of the first copy of the request in the log, and of the latest: clients retry.
    Column("request_offset", BigInteger),
    Column("latest_request_offset", BigInteger),
    PrimaryKeyConstraint("user_id", "id", name="turns_pkey"),
    CheckConstraint("user_id <> ''", name="turns_user_id"),
    Index("turns_of_conversation", "user_id", "conversation_id", "sequence"),
    Index("turns_live", "user_id", "id", postgresql_where=text("status IN ('queued', 'in_progress')")),
)

messages = Table(
    "messages",
    metadata,
    Column("user_id", Text, nullable=False),
    Column("id", _id(), nullable=False),
    Column("conversation_id", _id(), nullable=False),
    Column("turn_id", _id(), nullable=False),
    Column("parent_id", _id()),
    Column("role", Text, nullable=False),
    Column("content", EscapedText, nullable=False),
    #: The turn's; NULL until its request is stored, and so long invisible.
    Column("sequence", BigInteger),
    #: Within the turn: 0 the user message, 1 the reply.
    Column("position", SmallInteger, nullable=False),
    Column("created_at", _time(), nullable=False),
    PrimaryKeyConstraint("user_id", "id", name="messages_pkey"),
    CheckConstraint("user_id <> ''", name="messages_user_id"),
    Index("messages_in_order", "user_id", "conversation_id", "sequence", "position"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("user_id", Text, nullable=False),
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("topic", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("value", LargeBinary, nullable=False),
    PrimaryKeyConstraint("user_id", "id", name="outbox_pkey"),
    Index("outbox_in_order", "id"),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("user_id", Text, nullable=False),
    Column("conversation_id", _id(), nullable=False),
    Column("deleted_at", _time(), nullable=False),
    PrimaryKeyConstraint("user_id", "conversation_id", name="tombstones_pkey"),
    CheckConstraint("user_id <> ''", name="tombstones_user_id"),
)

log_positions = Table(
    "log_positions",
    metadata,
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    #: The writer has stored everything below.
    Column("next_offset", BigInteger, nullable=False),
    PrimaryKeyConstraint("topic", "partition", name="log_positions_pkey"),
)
