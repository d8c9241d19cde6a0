"""Settings that several services share. Environment variables, prefix LOGUE_."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class LogueSettings(BaseSettings):
    """Base of every settings class."""

    model_config = SettingsConfigDict(env_prefix="LOGUE_", extra="ignore", frozen=True)


class KafkaSettings(LogueSettings):
    """How to reach Kafka."""

    kafka_bootstrap: str

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments that every aiokafka client takes."""
        return {"bootstrap_servers": self.kafka_bootstrap}


class TopicSettings(LogueSettings):
    """How topics are created."""

    model_config = SettingsConfigDict(env_prefix="LOGUE_TOPIC_", extra="ignore", frozen=True)

    partitions: int = Field(default=12, ge=1)
    stream_partitions: int = Field(default=16, ge=1)
    changed_partitions: int = Field(default=4, ge=1)
    replication_factor: int = Field(default=1, ge=1)


class InternalApiSettings(LogueSettings):
    """How services call the conversation service."""

    conversation_url: str
    internal_token: SecretStr = Field(min_length=16)
