"""Conversations, turns, messages, outbox, tombstones, positions; forced row-level security for three roles.

Owner and superuser rights never reach the services: they log in as roles that own nothing and bypass nothing. FORCE
binds the owner too, so a later migration that must change rows adds a policy for itself.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE conversations (
    user_id text NOT NULL CONSTRAINT conversations_user_id CHECK (user_id <> ''),
    id uuid NOT NULL,
    title text,
    archived boolean NOT NULL DEFAULT false,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamptz,
    updated_at timestamptz,
    last_sequence bigint NOT NULL DEFAULT 0,
    CONSTRAINT conversations_pkey PRIMARY KEY (user_id, id),
    CONSTRAINT conversations_one_owner UNIQUE (id)
);
CREATE INDEX conversations_newest ON conversations (user_id, created_at, id) WHERE created_at IS NOT NULL;

CREATE TABLE turns (
    user_id text NOT NULL CONSTRAINT turns_user_id CHECK (user_id <> ''),
    id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    sequence bigint,
    status text NOT NULL,
    attempt integer NOT NULL,
    n integer,
    parent_id uuid,
    user_message_id uuid,
    reply_message_id uuid,
    requested_at timestamptz,
    started_at timestamptz,
    first_token_at timestamptz,
    finished_at timestamptz,
    model text,
    usage jsonb,
    error jsonb,
    reply_to jsonb,
    fingerprint text,
    metadata jsonb,
    request_partition integer,
    request_offset bigint,
    latest_request_offset bigint,
    CONSTRAINT turns_pkey PRIMARY KEY (user_id, id)
);
CREATE INDEX turns_of_conversation ON turns (user_id, conversation_id, sequence);
CREATE INDEX turns_live ON turns (user_id, id) WHERE status IN ('queued', 'in_progress');

CREATE TABLE messages (
    user_id text NOT NULL CONSTRAINT messages_user_id CHECK (user_id <> ''),
    id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    turn_id uuid NOT NULL,
    parent_id uuid,
    role text NOT NULL,
    content text NOT NULL,
    sequence bigint,
    position smallint NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT messages_pkey PRIMARY KEY (user_id, id)
);
CREATE INDEX messages_in_order ON messages (user_id, conversation_id, sequence, position);
CREATE INDEX messages_of_turn ON messages (user_id, turn_id);

CREATE TABLE outbox (
    user_id text NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    topic text NOT NULL,
    key text NOT NULL,
    headers jsonb NOT NULL,
    value bytea NOT NULL,
    CONSTRAINT outbox_pkey PRIMARY KEY (user_id, id)
);
CREATE INDEX outbox_in_order ON outbox (id);

CREATE TABLE tombstones (
    user_id text NOT NULL CONSTRAINT tombstones_user_id CHECK (user_id <> ''),
    conversation_id uuid NOT NULL,
    deleted_at timestamptz NOT NULL,
    CONSTRAINT tombstones_pkey PRIMARY KEY (user_id, conversation_id)
);

CREATE TABLE log_positions (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    CONSTRAINT log_positions_pkey PRIMARY KEY (topic, partition)
);
"""

_USER_TABLES = ("conversations", "turns", "messages", "outbox", "tombstones")

_GRANTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON conversations TO logue_api;
GRANT SELECT, DELETE ON turns, messages TO logue_api;
GRANT SELECT, INSERT ON tombstones TO logue_api;
GRANT INSERT ON outbox TO logue_api;
GRANT SELECT ON log_positions TO logue_api, logue_relay;

GRANT SELECT, INSERT, UPDATE, DELETE ON conversations TO logue_writer;
GRANT SELECT, INSERT, UPDATE ON turns, messages TO logue_writer;
GRANT SELECT ON tombstones TO logue_writer;
GRANT INSERT ON outbox TO logue_writer;
GRANT SELECT, INSERT, UPDATE ON log_positions TO logue_writer;

GRANT SELECT, DELETE ON outbox TO logue_relay;
GRANT SELECT (user_id, id, conversation_id, status, requested_at, started_at, model, user_message_id, parent_id,
              request_partition, latest_request_offset) ON turns TO logue_relay;
"""

# `user_id = current_setting(…)` is NULL (no row) when nothing is set, and compares with '' (which no row has) on a
# pooled connection whose last transaction has set it. The sub-select makes the array once, not per row.
_API = "user_id = current_setting('logue.user_id', true)"
_WRITER = (
    "user_id = ANY (ARRAY(SELECT jsonb_array_elements_text("
    "NULLIF(current_setting('logue.user_ids', true), '')::jsonb)))"
)


def _run(script: str) -> None:
    for statement in script.split(";\n"):  # asyncpg takes one statement at a time
        if statement.strip():
            op.execute(statement)


def upgrade() -> None:
    """Apply."""
    _run(_TABLES)
    for table in _USER_TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY api ON {table} TO logue_api USING ({_API}) WITH CHECK ({_API})")
        op.execute(f"CREATE POLICY writer ON {table} TO logue_writer USING ({_WRITER}) WITH CHECK ({_WRITER})")
    op.execute("CREATE POLICY relay ON outbox TO logue_relay USING (true) WITH CHECK (false)")
    op.execute(
        "CREATE POLICY reconciler ON turns FOR SELECT TO logue_relay USING (status IN ('queued', 'in_progress'))"
    )
    _run(_GRANTS)


def downgrade() -> None:
    """Take back."""
    for table in (*_USER_TABLES, "log_positions"):
        op.execute(f"DROP TABLE {table}")
