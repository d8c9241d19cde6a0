from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.integration.agent.rig import Rig, open_rig


@pytest.fixture
async def rig(broker: str) -> AsyncIterator[Rig]:
    async with open_rig(broker) as opened:
        yield opened
