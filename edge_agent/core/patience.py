"""When a transfer is given up: nothing new for too long, or a drip that never ends. Times in ns, of a monotonic clock.

Time in which the link is down does not count, unless `offline_counts`: a cut link only delays a transfer.
"""

from dataclasses import dataclass
from typing import Final

from wire.assignment import TransferPolicy
from wire.ports import SECOND

FIRST_SILENCE_NS: Final = 3 * SECOND
"""So long without a first chunk means that it got lost, or that nobody retains it."""
LEAST_SILENCE_NS: Final = SECOND
"""So long between two chunks means the same, unless the link has shown to be slower: GAPS times as long."""
GAPS: Final = 8
LAST_SILENCE_NS: Final = 60 * SECOND


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a transfer may bring nothing new. `offline_counts`: also while the link is down, so it surely ends."""

    stall_s: float
    offline_counts: bool = False


class Watch:
    """Looks after one transfer; told at every turn what came since the one before."""

    __slots__ = (
        "_asked_one",
        "_bytes",
        "_elapsed_ns",
        "_gap_ns",
        "_idle_ns",
        "_least_bytes",
        "_patience",
        "_quiet_ns",
        "_seen_ns",
        "_silence_ns",
        "_window_ns",
    )

    def __init__(self, patience: Patience, policy: TransferPolicy, now_ns: int) -> None:
        self._patience = patience
        rate = policy.min_rate if policy.max_rate is None else min(policy.min_rate, policy.max_rate // 2)
        self._window_ns = int(policy.min_rate_window_s * SECOND)
        self._least_bytes = rate * policy.min_rate_window_s
        self._seen_ns = now_ns
        self._idle_ns = 0
        """Counted time since something new came."""
        self._quiet_ns = 0
        """Time since something new came or was asked for."""
        self._silence_ns = FIRST_SILENCE_NS
        self._asked_one = False
        """Has one of the two who are asked by turns had this long to answer?"""
        self._gap_ns = 0
        """How long chunks took to come lately, once asked for: finding out whom to ask says nothing of that."""
        self._elapsed_ns = 0
        self._bytes = 0

    def turn(self, received: int, now_ns: int, *, link_up: bool) -> str:
        """`received` new bytes came since the last turn; returns why to give up, or nothing."""
        passed_ns, self._seen_ns = now_ns - self._seen_ns, now_ns
        counted_ns = passed_ns if link_up or self._patience.offline_counts else 0
        self._idle_ns += counted_ns
        self._quiet_ns += passed_ns if link_up else 0
        if received:
            self._gap_ns = max(self._quiet_ns, self._gap_ns // 2)
            self._silence_ns = min(LAST_SILENCE_NS, max(LEAST_SILENCE_NS, GAPS * self._gap_ns))
            self._idle_ns = self._quiet_ns = 0
            self._asked_one = False
        if self._idle_ns >= self._patience.stall_s * SECOND:
            return f"nothing new for {self._patience.stall_s:g} s"
        return self._too_slow(received, counted_ns)

    def silent(self) -> bool:
        """Has it been quiet for so long that what is outstanding has to be asked for again?

        Broker and hub are asked by turns, and ever later. Both get the same time to answer: one of them may have
        nothing to give, and the other has to be asked more than once before patience ends, since questions get lost.
        """
        if self._quiet_ns < self._silence_ns:
            return False
        self._quiet_ns = 0
        if self._asked_one:
            self._silence_ns = min(LAST_SILENCE_NS, 2 * self._silence_ns)
        self._asked_one = not self._asked_one
        return True

    def asked(self) -> None:
        """A request went out: what it brings takes its time."""
        self._quiet_ns = 0

    def wait_ns(self) -> int:
        """When to look again at the latest."""
        stall_ns = int(self._patience.stall_s * SECOND) - self._idle_ns
        return max(1, min(FIRST_SILENCE_NS, self._silence_ns - self._quiet_ns, stall_ns))

    def _too_slow(self, received: int, counted_ns: int) -> str:
        self._elapsed_ns += counted_ns
        self._bytes += received
        if self._elapsed_ns < self._window_ns:
            return ""
        bytes_came, seconds = self._bytes, self._elapsed_ns / SECOND
        self._elapsed_ns = self._bytes = 0
        if bytes_came >= self._least_bytes:
            return ""
        return f"only {bytes_came} bytes in {seconds:.0f} s"
