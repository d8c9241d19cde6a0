"""What made large batches slow: a search through the batch's users for each row, and an index that nobody needs.

The users of a batch are the keys of a JSON object now, found by binary search. It has a name of its own,
`logue.users`: a service that is older than this schema sends the array `logue.user_ids`, which is searched from its
beginning as it was; one that is newer than the schema has no rights before the migration, and waits.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# In this order: what the relay holds while it waits for the broker comes first, before anything that readers wait for.
_TABLES = ("outbox", "tombstones", "turns", "messages", "conversations")
_OBJECT = "NULLIF(current_setting('logue.users', true), '')"
_ARRAY = "NULLIF(current_setting('logue.user_ids', true), '')"
# The sub-select reads the setting once, not per row.
_IS_KEY = f"(SELECT COALESCE({_OBJECT}, {_ARRAY})::jsonb) ? user_id"
_IS_IN_ARRAY = f"user_id = ANY (ARRAY(SELECT jsonb_array_elements_text({_ARRAY}::jsonb)))"


def _let_writer(rule: str) -> None:
    for table in _TABLES:
        op.execute(f"ALTER POLICY writer ON {table} USING ({rule}) WITH CHECK ({rule})")


def upgrade() -> None:
    """Apply."""
    _let_writer(_IS_KEY)
    op.execute("DROP INDEX messages_of_turn")


def downgrade() -> None:
    """Take back."""
    op.execute("CREATE INDEX messages_of_turn ON messages (user_id, turn_id)")
    _let_writer(_IS_IN_ARRAY)
