"""Settings of the agent. The table in README.md lists them."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from logue_common.settings import SESSION_SECONDS, InternalApiSettings, KafkaSettings


class AgentSettings(KafkaSettings, InternalApiSettings):
    """Environment variables, prefix LOGUE_; those of the model server as OpenAI's own clients name them."""

    agent_host: str = "127.0.0.1"
    agent_port: int = 8110
    agent_group: str = "logue-agent"
    #: Turns that call the model at once.
    agent_concurrency: int = Field(default=256, ge=1)
    agent_model: str = "demo"
    #: The model's window, less what its answer needs.
    agent_context_tokens: int = Field(default=100_000, ge=100)
    agent_cache_characters: int = Field(default=64_000_000, ge=0)
    agent_context_wait_seconds: float = Field(default=30.0, gt=0)
    agent_first_token_seconds: float = Field(default=60.0, gt=0)
    agent_idle_seconds: float = Field(default=60.0, gt=0)
    agent_turn_expiry_seconds: float = Field(default=3600.0, gt=0)
    #: The next owner waits for no longer than MAX_HOLD_SECONDS.
    agent_drain_seconds: float = Field(default=20.0, ge=0, le=50)
    #: How soon the group takes over from a dead agent. Brokers accept no less than 6 s unless told to.
    agent_session_seconds: float = Field(default=SESSION_SECONDS, ge=1)
    openai_base_url: str = Field(default="https://api.openai.com/v1", validation_alias="OPENAI_BASE_URL")
    openai_api_key: SecretStr = Field(default=SecretStr("none"), validation_alias="OPENAI_API_KEY")

    @field_validator("openai_api_key")
    @classmethod
    def _as_a_header(cls, value: SecretStr) -> SecretStr:
        key = value.get_secret_value().strip()  # secrets from files end in a line end
        if not (key.isascii() and key.isprintable()):
            raise ValueError("must be printable ASCII, as a header of HTTP is")
        return SecretStr(key)
