"""When a certificate is renewed, and when it is over. Nothing else follows from its dates: inference never stops."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lifetime:
    """First and last moment of a certificate, nanoseconds since 1970."""

    begins_ns: int
    ends_ns: int

    @property
    def renewal_ns(self) -> int:
        """Two thirds of its life are over: time for the next one."""
        return self.begins_ns + (self.ends_ns - self.begins_ns) * 2 // 3

    def renewal_due(self, now_ns: int) -> bool:
        """Is it time to ask for the next one?"""
        return now_ns >= self.renewal_ns

    def over(self, now_ns: int) -> bool:
        """Has it expired?"""
        return now_ns >= self.ends_ns


def at_least(clock_ns: int, floor_ns: int) -> int:
    """What time it is at least: a clock below the latest signed time is wrong, and that time is the better guess."""
    return max(clock_ns, floor_ns)
