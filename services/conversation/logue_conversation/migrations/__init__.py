"""Alembic migrations, run by `python -m logue_conversation.migrate`."""
