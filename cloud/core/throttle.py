"""How fast somebody may go: a token bucket that is filled by time, as a value.

A bucket holds `burst` requests and gains `per_s` a second. Who finds it empty is told how long to wait.
"""

from dataclasses import dataclass

SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests a second in the long run, so many at once."""

    per_s: float
    burst: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """What was left at a moment. Somebody who was never seen has a full one."""

    left: float
    at_ns: int


def wait_s(bucket: Bucket | None, rate: Rate, now_ns: int) -> float:
    """Seconds until one more request is fine; 0 = now."""
    return max(0.0, 1.0 - _left(bucket, rate, now_ns)) / rate.per_s


def spend(bucket: Bucket | None, rate: Rate, now_ns: int) -> Bucket:
    """The bucket after one more request; never below empty."""
    return Bucket(max(0.0, _left(bucket, rate, now_ns) - 1.0), now_ns)


def _left(bucket: Bucket | None, rate: Rate, now_ns: int) -> float:
    if bucket is None:
        return float(rate.burst)
    gained = max(0, now_ns - bucket.at_ns) / SECOND_NS * rate.per_s
    return min(float(rate.burst), bucket.left + gained)
