"""Becomes another program, one that cannot outlive its parent: `python -m cloud.adapters.end_with_parent PROGRAM ...`

For children that do not watch a pipe as ours do. They may open as many files as the system permits.
"""

import os
import resource
import sys

from wire.adapters.parent import end_with_parent


def main() -> None:
    """Arm the signal, then become the program."""
    end_with_parent()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
