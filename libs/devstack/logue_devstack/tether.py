"""Becomes another program, tied to the life of its parent: `python -I -S tether.py PARENT SIGNAL USER program …`.

A program of its own rather than a `preexec_fn`, which is unsafe beside threads. Imports nothing of the package.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: str, signum: str, user: str, *argv: str) -> None:
    if user:
        account = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    if sys.platform == "linux":  # after setuid, which clears it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signum))
        if os.getppid() != int(parent):  # it died before the knot was tied
            sys.exit("The parent process is gone.")
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - that is the purpose
    except OSError as error:
        sys.exit(f"Cannot run {argv[0]}: {error.strerror}.")


if __name__ == "__main__":
    main(*sys.argv[1:])
