"""`python -m logue_conversation`."""

import sys

from logue_conversation.main import main

sys.exit(main())
