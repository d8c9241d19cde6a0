"""Process entry: the internal API, the writer, the outbox relay and the reconciler, in one process."""

from __future__ import annotations

import sys

from logue_common.errors import StartupError
from logue_common.service import observe, serve
from logue_conversation.api.app import create_app
from logue_conversation.settings import ConversationSettings

#: A batch makes many objects, and none of them is garbage before it is stored.
_YOUNG_OBJECTS = 10_000


def main() -> int:
    """Serve until SIGTERM. 1 when the settings are not usable."""
    try:
        settings = ConversationSettings.load()
        observe("conversation", settings.log_level)
    except StartupError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    serve(
        create_app(settings),
        host=settings.conversation_host,
        port=settings.conversation_port,
        metrics_port=settings.metrics_port,
        young_objects=_YOUNG_OBJECTS,
    )
    return 0
