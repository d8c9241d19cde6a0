"""`python -m logue_gateway`."""

from __future__ import annotations

import sys

from logue_common.errors import StartupError
from logue_gateway.main import run
from logue_gateway.settings import GatewaySettings

try:
    run(GatewaySettings.load())
except StartupError as error:
    sys.exit(str(error))
