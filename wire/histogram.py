"""Latency histograms that add up: fixed logarithmic buckets, eight to an octave (9 % wide), keyed by bucket number."""

import math
from collections.abc import Mapping

_PER_OCTAVE = 8


def bucket(value: float) -> int:
    """Bucket number of a positive value (values below 1 share bucket 0)."""
    return 0 if value < 1 else math.floor(_PER_OCTAVE * math.log2(value)) + 1


def quantile(counts: Mapping[int, int], q: float) -> float:
    """Value at quantile `q` (0..1): the geometric middle of the bucket it falls into; NaN when nothing was counted."""
    total = sum(counts.values())
    seen = 0
    for number in sorted(counts):
        seen += counts[number]
        if seen >= q * total and seen:
            return 1.0 if number == 0 else 2.0 ** ((number - 0.5) / _PER_OCTAVE)
    return math.nan


def merge(*many: Mapping[int, int]) -> dict[int, int]:
    """The histogram of all observations together."""
    out: dict[int, int] = {}
    for counts in many:
        for number, count in counts.items():
            out[number] = out.get(number, 0) + count
    return out
