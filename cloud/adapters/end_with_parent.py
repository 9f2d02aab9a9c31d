"""Becomes another program, one that cannot outlive its parent: `python -m cloud.adapters.end_with_parent PROGRAM ...`

For children that do not watch a pipe as ours do. The kernel kills them when the parent ends, however it ends (Linux;
elsewhere a parent that was killed leaves them behind). They may open as many files as the system permits.
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Arm the signal, then become the program."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        sys.exit("the parent has ended")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
