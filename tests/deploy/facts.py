"""What the code says about each image: the module that it runs, and that module's settings."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic_settings import BaseSettings

from logue_agent.settings import AgentSettings
from logue_common.settings import KafkaSettings, TopicSettings
from logue_conversation.settings import ConversationSettings, MigrationSettings
from logue_gateway.settings import GatewaySettings

SETTINGS_OF_MODULE: dict[str, tuple[type[BaseSettings], ...]] = {
    "logue_gateway": (GatewaySettings,),
    "logue_agent": (AgentSettings,),
    "logue_conversation": (ConversationSettings,),
    "logue_conversation.migrate": (MigrationSettings,),
    "logue_common.topics": (KafkaSettings, TopicSettings),
}
PORT_OF_MODULE = {"logue_gateway": 8000, "logue_agent": 8110, "logue_conversation": 8103}


def variables(classes: Iterable[type[BaseSettings]], *, required: bool = False) -> set[str]:
    """The environment variables that these settings know, or cannot do without."""
    return {
        str(field.validation_alias or f"{settings.model_config.get('env_prefix', '')}{name}").upper()
        for settings in classes
        for name, field in settings.model_fields.items()
        if field.is_required() or not required
    }


def ours(names: Iterable[str]) -> set[str]:
    """Those of `names` that are meant for Logue's settings rather than for building a URL of them."""
    return {name for name in names if name.startswith(("LOGUE_", "OPENAI_"))}
