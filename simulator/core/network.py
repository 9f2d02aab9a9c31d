"""What a network does to messages: loses, repeats, delays, squeezes and bars them. Decisions only; links and broker
carry them out.

Loss means what is worst in practice: a message that the broker acknowledged and never delivered, a publish that never
arrived, or one that arrived while its acknowledgement did not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from simulator.core.rng import Rng
from wire.ports import MILLISECOND, SECOND


@dataclass(frozen=True, slots=True)
class Quality:
    """How good one client's network is. Shares are 0..1; delays are one way.

    `reordering`: of the messages to the client, how many are overtaken by later ones. `bandwidth`: bytes per second,
    each way; 0: no limit.
    """

    loss: float = 0.0
    duplication: float = 0.0
    delay_min_ns: int = 1 * MILLISECOND
    delay_max_ns: int = 40 * MILLISECOND
    reordering: float = 0.0
    bandwidth: int = 0

    def worsened(self, by: "Quality") -> "Quality":
        """What is left of it under a fault: shares and delays add up, the smaller bandwidth counts."""
        return Quality(
            min(1.0, self.loss + by.loss),
            min(1.0, self.duplication + by.duplication),
            self.delay_min_ns + by.delay_min_ns,
            self.delay_max_ns + by.delay_max_ns,
            min(1.0, self.reordering + by.reordering),
            min(self.bandwidth or by.bandwidth, by.bandwidth or self.bandwidth),
        )


class Odds(NamedTuple):
    """What a message is up against. The first two: of 53 random bits as a number, below which it happens."""

    lost_below: float
    doubled_below: float
    shortest_ns: int
    spread_ns: int


@lru_cache
def odds(quality: Quality) -> Odds:
    """The same for a whole fleet, and looked at for every message."""
    spread_ns = quality.delay_max_ns - quality.delay_min_ns + 1
    return Odds(quality.loss * (1 << 53), quality.duplication * (1 << 53), quality.delay_min_ns, spread_ns)


class Passage(NamedTuple):
    """What happens to one publish: does it arrive, and does its acknowledgement come back?"""

    arrives: bool
    acknowledged: bool


THROUGH: Final = Passage(arrives=True, acknowledged=True)
"""As most do."""


@dataclass(slots=True)
class Faults:
    """How often the network did harm."""

    lost_publishes: int = 0
    lost_acks: int = 0
    lost_deliveries: int = 0
    duplicates: int = 0
    reordered: int = 0


@dataclass(slots=True)
class Line:
    """What takes one thing after the other."""

    free_ns: int = 0

    def wait_ns(self, now_ns: int, takes_ns: int) -> int:
        """How long from now until something that takes so long is through."""
        self.free_ns = max(self.free_ns, now_ns) + takes_ns
        return self.free_ns - now_ns


class Network:
    """The fate of the messages of one client. `quality` may be replaced at any time; faults lie on top of it."""

    def __init__(self, quality: Quality, rng: Rng, faults: Faults | None = None) -> None:
        self.faults = faults if faults is not None else Faults()
        self.up_bytes = 0
        self.down_bytes = 0
        self._own = quality
        self._now = quality
        self._worse: dict[str, Quality] = {}
        self._barriers: dict[str, None] = {}
        self._waiting: list[Callable[[], None]] = []
        self._up, self._down = Line(), Line()
        self._rng = rng
        self._odds = odds(quality)

    @property
    def quality(self) -> Quality:
        """How good it is now, with all that lies on top."""
        return self._now

    @quality.setter
    def quality(self, quality: Quality) -> None:
        self._own = quality
        self._weigh()

    def worsen(self, key: str, by: Quality) -> None:
        """It is so much worse until `recover` is called with the same key."""
        self._worse[key] = by
        self._weigh()

    def recover(self, key: str) -> None:
        """The fault is over."""
        self._worse.pop(key, None)
        self._weigh()

    @property
    def reachable(self) -> bool:
        """Can the client and the broker reach each other at all?"""
        return not self._barriers

    def bar(self, key: str) -> None:
        """They cannot, until `admit` is called with the same key."""
        self._barriers[key] = None

    def admit(self, key: str) -> None:
        """This barrier is gone; if it was the last one, whoever waits is called."""
        self._barriers.pop(key, None)
        if self.reachable:
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                call()

    def when_reachable(self, call: Callable[[], None]) -> None:
        """Call once the last barrier is gone."""
        self._waiting.append(call)

    def send_ns(self, now_ns: int, size: int) -> int:
        """Count bytes from the client, and how long they take for want of bandwidth."""
        self.up_bytes += size
        return self._squeeze(self._up, now_ns, size)

    def receive_ns(self, now_ns: int, size: int) -> int:
        """Count bytes to the client, and how long they take for want of bandwidth."""
        self.down_bytes += size
        return self._squeeze(self._down, now_ns, size)

    def publish(self) -> Passage:
        """Decide over one publish. Half of the losses hit the message, half its acknowledgement."""
        if self._rng.bits(53) >= self._odds.lost_below:
            return THROUGH
        on_the_way_back = self._rng.chance(0.5)
        if on_the_way_back:
            self.faults.lost_acks += 1
        else:
            self.faults.lost_publishes += 1
        return Passage(arrives=on_the_way_back, acknowledged=False)

    def deliver(self) -> int:
        """How many copies of one message reach the client: none when it is lost, two when it is repeated."""
        if self._rng.bits(53) < self._odds.lost_below:
            self.faults.lost_deliveries += 1
            return 0
        if self._rng.bits(53) < self._odds.doubled_below:
            self.faults.duplicates += 1
            return 2
        return 1

    def overtaken(self) -> bool:
        """Do later messages overtake this one on its way to the client?"""
        overtaken = self._now.reordering > 0 and self._rng.chance(self._now.reordering)
        self.faults.reordered += overtaken
        return overtaken

    def jitter_ns(self, pause_ns: int) -> int:
        """Half to one and a half of a pause, so that a fleet does not come back all at once."""
        return self._rng.between(pause_ns // 2, pause_ns * 3 // 2)

    def delay_ns(self) -> int:
        """How long one way takes now."""
        return self._odds.shortest_ns + self._rng.below(self._odds.spread_ns)

    def _squeeze(self, line: Line, now_ns: int, size: int) -> int:
        bandwidth = self._now.bandwidth
        return line.wait_ns(now_ns, size * SECOND // bandwidth) if bandwidth else 0

    def _weigh(self) -> None:
        self._now = self._own
        for worse in self._worse.values():
            self._now = self._now.worsened(worse)
        self._odds = odds(self._now)
