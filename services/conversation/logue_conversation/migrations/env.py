"""Alembic's entry. The connection is handed in by migrate.py."""

from __future__ import annotations

from alembic import context

from logue_conversation.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
