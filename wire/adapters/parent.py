"""A child process that cannot outlive its parent: Linux kills it when the parent ends, however it ends.

Elsewhere a parent that was killed leaves it behind.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Arm it, for this process and whatever program it becomes. Exits when the parent has ended already."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        sys.exit("the parent has ended")
