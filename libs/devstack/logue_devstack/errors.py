"""DevstackError: everything that goes wrong on the way up, told in one sentence."""


class DevstackError(Exception):
    """Something the user can act on; its text is shown as it is, without a traceback."""


class InterruptedStartError(DevstackError):
    """The start was given up because somebody asked the stack to stop."""
