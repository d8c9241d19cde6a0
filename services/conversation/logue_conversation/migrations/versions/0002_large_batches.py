"""What made large batches slow: a search through the batch's users for each row, and an index that nobody needs.

The users of a batch are the keys of a JSON object now, found by binary search; an array, which a service of the version
before still sends, is searched from its beginning as it was.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TABLES = ("conversations", "turns", "messages", "outbox", "tombstones")
_USERS = "NULLIF(current_setting('logue.user_ids', true), '')::jsonb"
# The sub-select reads the setting once, not per row.
_IS_KEY = f"(SELECT {_USERS}) ? user_id"
_IS_IN_ARRAY = f"user_id = ANY (ARRAY(SELECT jsonb_array_elements_text({_USERS})))"


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
