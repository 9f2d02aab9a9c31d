"""Spans of time as people write them: a number and ms, s, m, h or d. In scenario files and faults they stay text."""

import re
from typing import Annotated, Final

import msgspec

from wire.ports import MILLISECOND, SECOND

PATTERN: Final = r"^\d+(\.\d+)?(ms|s|m|h|d)$"
Duration = Annotated[
    str, msgspec.Meta(pattern=PATTERN, description="a span of time: 500ms, 90s, 15m, 6h, 2d", examples=["90s"])
]
_UNITS_NS: Final = {
    "d": 86_400 * SECOND,
    "h": 3_600 * SECOND,
    "m": 60 * SECOND,
    "s": SECOND,
    "ms": MILLISECOND,
}


def nanoseconds(duration: str) -> int:
    """Its length. Raises ValueError."""
    if not re.match(PATTERN, duration):
        raise ValueError(f"{duration!r} is no span of time: write it like 90s, 15m or 6h")
    number = duration.rstrip("dhms")
    return round(float(number) * _UNITS_NS[duration[len(number) :]])


def written(ns: int) -> str:
    """The shortest way to write a span, exact to the millisecond."""
    whole_ms = round(ns / MILLISECOND) * MILLISECOND
    unit = next(unit for unit, size_ns in _UNITS_NS.items() if whole_ms % size_ns == 0)
    return f"{whole_ms // _UNITS_NS[unit]}{unit}" if whole_ms else "0s"
