"""What a network does to messages: loses, repeats and delays them. Decisions only; the broker carries them out.

Loss means what is worst in practice: a message that the broker acknowledged and never delivered, a publish that never
arrived, or one that arrived while its acknowledgement did not.
"""

from dataclasses import dataclass
from typing import NamedTuple

from simulator.core.rng import Rng
from wire.ports import MILLISECOND


@dataclass(frozen=True, slots=True)
class Quality:
    """How good one client's network is. Shares are 0..1; delays are one way."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_min_ns: int = 1 * MILLISECOND
    delay_max_ns: int = 40 * MILLISECOND


class Passage(NamedTuple):
    """What happens to one publish: does it arrive, does its acknowledgement come back, and when."""

    arrives: bool
    acknowledged: bool
    there_ns: int
    back_ns: int


@dataclass(slots=True)
class Faults:
    """How often the network did harm."""

    lost_publishes: int = 0
    lost_acks: int = 0
    lost_deliveries: int = 0
    duplicates: int = 0


class Network:
    """The fate of the messages of one client. `quality` may be replaced at any time."""

    def __init__(self, quality: Quality, rng: Rng, faults: Faults | None = None) -> None:
        self.faults = faults if faults is not None else Faults()
        self.quality = quality
        self._rng = rng

    def publish(self) -> Passage:
        """Decide over one publish. Half of the losses hit the message, half its acknowledgement."""
        lost = self._rng.chance(self.quality.loss)
        on_the_way_back = lost and self._rng.chance(0.5)
        if lost and on_the_way_back:
            self.faults.lost_acks += 1
        elif lost:
            self.faults.lost_publishes += 1
        return Passage(not lost or on_the_way_back, not lost, self.delay_ns(), self.delay_ns())

    def deliver(self) -> tuple[int, ...]:
        """Delays of each copy of one message on its way to the client; none when it is lost."""
        if self._rng.chance(self.quality.loss):
            self.faults.lost_deliveries += 1
            return ()
        if self._rng.chance(self.quality.duplication):
            self.faults.duplicates += 1
            return self.delay_ns(), self.delay_ns()
        return (self.delay_ns(),)

    def jitter_ns(self, pause_ns: int) -> int:
        """Half to one and a half of a pause, so that a fleet does not come back all at once."""
        return self._rng.between(pause_ns // 2, pause_ns * 3 // 2)

    def delay_ns(self) -> int:
        """How long one way takes now."""
        return self._rng.between(self.quality.delay_min_ns, self.quality.delay_max_ns)
