"""What this service is told by its environment. The README has the table."""

from __future__ import annotations

from pydantic import Field, SecretStr

from logue_common.settings import KafkaSettings, LogueSettings


class ConversationSettings(KafkaSettings):
    """Settings of the service process."""

    internal_token: SecretStr = Field(min_length=16)
    database_url: SecretStr
    database_writer_url: SecretStr
    database_relay_url: SecretStr
    #: Each connection prepares a statement once. Off: behind a transaction pooler that cannot do that.
    database_prepared_statements: bool = True
    conversation_host: str = "127.0.0.1"
    conversation_port: int = Field(default=8103, ge=1, le=65535)
    #: Connections that the HTTP API may hold at once.
    conversation_pool_size: int = Field(default=10, ge=1)
    #: Records that one transaction of the writer takes at most.
    conversation_batch_records: int = Field(default=2000, ge=1)
    #: A turn without an outcome that is older than this is looked up in the log.
    conversation_lost_after_seconds: float = Field(default=60.0, gt=0)
    #: Pause between two searches for lost turns.
    conversation_reconcile_interval_seconds: float = Field(default=15.0, gt=0)


class MigrationSettings(LogueSettings):
    """Settings of `python -m logue_conversation.migrate`; the roles' passwords are those of the three URLs."""

    database_owner_url: SecretStr
    database_url: SecretStr
    database_writer_url: SecretStr
    database_relay_url: SecretStr
