"""The installer child, `python -m edge_agent.installer`: an order as a line of JSON on stdin, its verdict on stdout.

What is done here is done to data that nobody vouches for yet: models are loaded, trust metadata is parsed. Whatever
such data does to this process, under its resource limits, the daemon only sees a verdict, or that there was none; and
the memory that it took is given back. The child has no network: what it needs on the way it asks the daemon for.
"""

import contextlib
import resource
import sys
from pathlib import Path
from typing import Annotated, Final

import msgspec

from edge_agent.canary import CanaryOrder
from edge_agent.core.trust import Question
from edge_agent.rehearsal import RehearsalOrder
from edge_agent.unpack import UnpackOrder
from wire.adapters.parent import end_with_parent
from wire.codec import Document, decode, encode
from wire.errors import WireError

MODULE: Final = "edge_agent.installer"
MAX_ORDER_BYTES: Final = 8 * 1024 * 1024
FIRST_TO_GO: Final = "1000"
"""Score by which the kernel chooses whom to kill when memory runs out (proc_pid_oom_score_adj(5))."""


class TrustOrder(Document, frozen=True, kw_only=True, tag="trust"):
    """Judge the repository. `folder` (absolute) is the child's own: emptied first and removed at the end."""

    folder: str
    question: Question


class Limits(Document, frozen=True, kw_only=True):
    """What the process may use."""

    cpu_s: Annotated[int, msgspec.Meta(ge=1)]
    address_space_bytes: Annotated[int, msgspec.Meta(ge=1)] = 2 * 1024**3
    file_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Length of the longest file that it may write."""


What = CanaryOrder | RehearsalOrder | TrustOrder | UnpackOrder


class Order(Document, frozen=True, kw_only=True):
    """What to do, and within which limits."""

    limits: Limits
    what: What


def main() -> int:
    """Read the order, limit this process, carry the order out, write the verdict. Exit code 2: it was no order."""
    try:
        order = decode(sys.stdin.buffer.readline(MAX_ORDER_BYTES + 1), Order, limit=MAX_ORDER_BYTES)
    except WireError as error:
        print(error, file=sys.stderr)
        return 2
    end_with_parent()
    go_first()
    limit(order.limits)
    sys.stdout.buffer.write(encode(carry_out(order.what)) + b"\n")
    return 0


def go_first() -> None:
    """When memory runs out, this process ends, whatever it holds, and not the daemon that answers with its models."""
    with contextlib.suppress(OSError):  # not every system has such scores
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)


def limit(limits: Limits) -> None:
    """Hold this process to its limits from now on; they can only be tightened."""
    for what, most in (
        (resource.RLIMIT_AS, limits.address_space_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))


def carry_out(what: What) -> object:
    """The verdict. Each command imports what it needs: a canary no TUF, a judgement no runtime."""
    match what:
        case CanaryOrder():
            from edge_agent.canary import attempt

            return attempt(what)
        case RehearsalOrder():
            from edge_agent.rehearsal import attempt as rehearse

            return rehearse(what)
        case TrustOrder():
            from edge_agent.judging import converse

            return converse(what.question, what.folder)
        case UnpackOrder():
            from edge_agent.unpack import attempt as unpack

            return unpack(what)


if __name__ == "__main__":
    sys.exit(main())
