"""The installer child's command `unpack`: a delta and the object it builds on become a file, which nobody trusts yet.

A delta is input that nobody vouches for: it may be a bomb, ask for a huge window, or be cut off. This process is held
to its limits, writes no more than the length it was told, and says what was wrong; the daemon judges the file by its
digest.
"""

from typing import Annotated

import msgspec

from edge_agent.errors import brief
from wire.codec import Document

MIB = 1024 * 1024
OVERHEAD_BYTES = 384 * MIB
"""Address space of the interpreter, its libraries and the buffers."""


class UnpackOrder(Document, frozen=True, kw_only=True, tag="unpack"):
    """Turn `base` into `target` (absolute paths) with `delta`. `target` exists and has `length` bytes of room."""

    base: str
    delta: str
    target: str
    length: Annotated[int, msgspec.Meta(ge=1)]


class Unpacked(Document, frozen=True, kw_only=True):
    """How it went. `reason` is empty when `target` has been written in full length."""

    reason: str = ""


def address_space_bytes(base_bytes: int, length: int) -> int:
    """What the process may use: the base twice, and a window for base and target, which is at most twice both."""
    return OVERHEAD_BYTES + 2 * base_bytes + 2 * (base_bytes + length)


def attempt(order: UnpackOrder) -> Unpacked:
    """Unpack. Whatever the delta causes is the reason."""
    try:
        _unpack(order)
    except Exception as error:  # the delta is hostile until proven otherwise
        return Unpacked(reason=brief(error))
    return Unpacked()


def _unpack(order: UnpackOrder) -> None:
    from wire.adapters.zstd_delta import unpack

    with open(order.base, "rb") as file:
        base = file.read()
    with open(order.delta, "rb") as delta, open(order.target, "r+b", buffering=0) as target:
        for piece in unpack(base, delta, order.length):
            view = memoryview(piece)
            while view:
                view = view[target.write(view) :]
