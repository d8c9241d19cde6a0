"""Settings that several services share. Environment variables, prefix LOGUE_."""

from __future__ import annotations

import ssl
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
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
    #: Where /metrics is, and only there; without it, beside everything else.
    metrics_port: int | None = Field(default=None, ge=1, le=65535)

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
    """How to reach Kafka, and as whom.

    Making one raises StartupError when the settings contradict each other, or lack something. SASL without TLS is not
    offered: whoever listens on the way would read every message.
    """

    kafka_bootstrap: str
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = "SCRAM-SHA-512"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    #: PEM with the authorities that may have signed the brokers' certificates; those of the system without it.
    kafka_ssl_cafile: str | None = None

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments that every aiokafka client takes."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.kafka_bootstrap,
            "metadata_max_age_ms": METADATA_MAX_AGE_MS,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "security_protocol": self.kafka_security_protocol,
        }
        if self.kafka_security_protocol != "PLAINTEXT":
            options["ssl_context"] = self._ssl_context
        if self.kafka_sasl_password is not None:
            options |= {
                "sasl_mechanism": self.kafka_sasl_mechanism,
                "sasl_plain_username": self.kafka_sasl_username,
                "sasl_plain_password": self.kafka_sasl_password.get_secret_value(),
            }
        return options

    @field_validator("kafka_sasl_username", "kafka_sasl_password", "kafka_ssl_cafile", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        chosen = f"LOGUE_KAFKA_SECURITY_PROTOCOL is {self.kafka_security_protocol}"
        credentials = {
            "LOGUE_KAFKA_SASL_USERNAME": self.kafka_sasl_username,
            "LOGUE_KAFKA_SASL_PASSWORD": self.kafka_sasl_password,
        }
        if self.kafka_security_protocol == "SASL_SSL":
            if missing := [name for name, value in credentials.items() if value is None]:
                raise StartupError(f"{chosen}: set {' and '.join(missing)} too.")
        elif given := [name for name, value in credentials.items() if value is not None]:
            names = " and ".join(given)
            raise StartupError(f"{chosen}, which uses no credentials: set it to SASL_SSL, or unset {names}.")
        if self.kafka_security_protocol != "PLAINTEXT":
            _ = self._ssl_context
        elif self.kafka_ssl_cafile is not None:
            raise StartupError(f"{chosen}: set it to SASL_SSL or SSL, or unset LOGUE_KAFKA_SSL_CAFILE.")
        return self

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        """One for all clients: reading the authorities of a system takes tens of milliseconds."""
        try:
            return ssl.create_default_context(cafile=self.kafka_ssl_cafile)
        except OSError as error:  # ssl.SSLError is one
            raise StartupError(
                f"LOGUE_KAFKA_SSL_CAFILE is {self.kafka_ssl_cafile}, which cannot be read as certificates in PEM "
                f"({error.strerror or error}): set it to such a file, or unset it to trust those of the system."
            ) from error


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
