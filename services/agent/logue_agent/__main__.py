"""`python -m logue_agent`."""

from __future__ import annotations

import sys

from logue_agent.main import main
from logue_common.errors import StartupError

try:
    main()
except StartupError as error:
    sys.exit(str(error))
