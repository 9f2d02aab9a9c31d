"""How a file is refused, and the bounds that every format is held to."""

import math
from collections.abc import Sequence
from typing import Final

MAX_TENSOR_BYTES: Final = 1 << 30
"""A tensor that takes more when the model runs: no device of such a fleet has room for it."""
MAX_NAMES: Final = 4096
"""Tensors, operators, inputs or outputs that a description lists."""
MAX_SHOWN: Final = 120
"""Characters of a name out of the file that a reason repeats."""


class RefusedError(Exception):
    """The file must not become an artefact; the message says why."""


def shown(name: object) -> str:
    """A name out of the file, fit for a message: quoted, escaped, not too long."""
    text = str(name)
    return ascii(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...")


def elements(name: object, shape: Sequence[int]) -> int:
    """How many numbers a tensor of this shape has. Raises RefusedError for a negative dimension."""
    if any(size < 0 for size in shape):
        raise RefusedError(f"tensor {shown(name)} has a negative dimension: {list(shape)[:8]}")
    return math.prod(shape)


def check_size(name: object, shape: Sequence[int], bits: int) -> None:
    """Refuse a tensor that nobody could hold."""
    needed = elements(name, shape) * bits // 8
    if needed > MAX_TENSOR_BYTES:
        raise RefusedError(
            f"tensor {shown(name)} of shape {list(shape)[:8]} would take {needed} bytes; {MAX_TENSOR_BYTES} are allowed"
        )


def check_count(what: str, count: int) -> None:
    """Refuse lists that are too long to be described."""
    if count > MAX_NAMES:
        raise RefusedError(f"the file has {count} {what}; {MAX_NAMES} are allowed")
