"""`python -m logue_gateway`."""

from __future__ import annotations

import sys

from pydantic import ValidationError

from logue_common.errors import StartupError
from logue_gateway.main import run
from logue_gateway.settings import GatewaySettings

try:
    run(GatewaySettings())
except StartupError as error:
    sys.exit(str(error))
except ValidationError as error:
    wrong = "; ".join(f"LOGUE_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_input=False))
    sys.exit(f"The gateway's settings are not complete: {wrong}")
