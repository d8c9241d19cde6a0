"""Settings that several services share. Environment variables, prefix LOGUE_."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from logue_common.errors import StartupError

#: Seen once, after a broker went away twice in a row: a heartbeat that waited in aiokafka's `force_metadata_update` for
#: minutes. The cause is not proven; the regular update, by default every five minutes, would have ended the wait.
METADATA_MAX_AGE_MS = 5_000
#: A broker that does not answer is taken for gone after so long (aiokafka's default is 40 s). A JoinGroup may rightly
#: wait for a whole session, so sessions are shorter.
REQUEST_TIMEOUT_MS = 10_000
#: A member that is silent for so long loses its partitions.
SESSION_SECONDS = 6.0


class LogueSettings(BaseSettings):
    """Base of every settings class."""

    model_config = SettingsConfigDict(env_prefix="LOGUE_", extra="ignore", frozen=True)

    log_level: str = "INFO"

    @classmethod
    def load(cls) -> Self:
        """From the environment. Raises StartupError, whose sentence names the variables that are missing or wrong."""
        try:
            return cls()
        except ValidationError as error:
            prefix = cls.model_config.get("env_prefix", "")
            wrong = [
                f"{name if name.isupper() else prefix + name.upper()}: {e['msg']}"
                for e in error.errors(include_input=False)
                for name in [str(e["loc"][0]) if e["loc"] else "settings"]
            ]
            raise StartupError(f"Set these environment variables right: {'; '.join(wrong)}.") from None


class KafkaSettings(LogueSettings):
    """How to reach Kafka."""

    kafka_bootstrap: str

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments that every aiokafka client takes."""
        return {
            "bootstrap_servers": self.kafka_bootstrap,
            "metadata_max_age_ms": METADATA_MAX_AGE_MS,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
        }


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
