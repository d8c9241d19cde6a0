"""Settings of the gateway. Environment variables, prefix LOGUE_ (the table is in this service's README)."""

from __future__ import annotations

from typing import Annotated
from zlib import crc32

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from logue_common.settings import InternalApiSettings, KafkaSettings

CommaList = Annotated[tuple[str, ...], NoDecode]


class GatewaySettings(KafkaSettings, InternalApiSettings):
    """Everything that a gateway must be told."""

    gateway_host: str = "127.0.0.1"
    gateway_port: int = 8000
    #: The number of this instance (0, 1, …), which says which partitions of chat.stream it owns.
    gateway_index: int | None = Field(default=None, ge=0)
    #: The pod's name, where instances have no number: one is derived from it.
    gateway_pod: str = ""
    #: How many partitions of chat.stream it owns.
    gateway_reply_partitions: int = Field(default=4, ge=1)
    #: Open streams and waiting requests together; beyond it 503 `overloaded`.
    gateway_max_streams: int = Field(default=10_000, ge=1)
    #: New turns are refused (503 `overloaded`) while the accepted ones wait this much longer than the model makes them.
    gateway_overload_seconds: float = Field(default=0.15, gt=0)
    #: Unsent bytes of one stream; a client that is slower is closed and resumes.
    gateway_stream_buffer_bytes: int = Field(default=256 * 1024, ge=1024)
    #: How long a JSON request waits for its reply before it is answered with 202.
    gateway_wait_seconds: float = Field(default=30.0, gt=0)
    gateway_publish_timeout_seconds: float = Field(default=5.0, gt=0)
    #: A comment keeps proxies awake after this long without an event.
    gateway_heartbeat_seconds: float = Field(default=15.0, gt=0)
    #: After this long without a frame the conversation service is asked how the turn stands.
    gateway_silence_seconds: float = Field(default=15.0, gt=0)

    jwt_secret: SecretStr | None = None
    jwks_url: str | None = None
    #: Empty: HS256 with a secret, all of RS256, ES256, EdDSA with a JWKS.
    jwt_algorithms: CommaList = ()
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_leeway_seconds: int = Field(default=10, ge=0, le=30)
    #: Key of the MAC in event ids; the same on all replicas.
    event_id_secret: SecretStr = Field(min_length=32)
    cors_origins: CommaList = ()

    @property
    def index(self) -> int:
        """The number of this instance. One that comes from a name may be another's too: that costs only bandwidth."""
        return crc32(self.gateway_pod.encode()) if self.gateway_index is None else self.gateway_index

    @field_validator("jwt_algorithms", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("jwt_secret", "jwks_url", "jwt_issuer", "jwt_audience", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value
