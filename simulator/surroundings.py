"""What a simulated device senses of the world, and what its user says of it: a small problem that can be learnt.

A window is eight whole numbers around the centre of its class, with an offset of the device's own. Whole numbers,
because sums of them are the same on every machine: what devices learn of them goes over the broker and into the digest.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from simulator.core.rng import Rng

if TYPE_CHECKING:
    from edge_agent.ports import Floats

FEATURES: Final = 8
CENTRES: Final = (
    (12, 12, 12, 12, -12, -12, -12, -12),
    (12, 12, -12, -12, 12, 12, -12, -12),
    (12, -12, 12, -12, 12, -12, 12, -12),
    (-12, 12, 12, -12, -12, 12, 12, -12),
)
"""One for each class, far from the others."""
SPREAD: Final = 14
"""Windows of a class lie as far around its centre, in each of their numbers."""
OWN: Final = 4
"""As far lies what a device senses beside what others do."""


@dataclass(slots=True)
class Surroundings:
    """The world around one device. It goes on through power cuts, and changes by faults.

    `drift` (0..1): how far every class has moved towards the place of the next one. `mislabelled` (0..1): how often the
    user names another class than the right one.
    """

    rng: Rng
    drift: float = 0.0
    mislabelled: float = 0.0
    own: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.own = tuple(self.rng.between(-OWN, OWN) for _ in range(FEATURES))

    def sense(self) -> "tuple[Floats, int]":
        """The next window, and the class that its user will say it is."""
        import numpy as np

        kind = self.rng.below(len(CENTRES))
        here, there = CENTRES[kind], CENTRES[(kind + 1) % len(CENTRES)]
        window = [
            here[at] + round(self.drift * (there[at] - here[at])) + self.own[at] + self.rng.between(-SPREAD, SPREAD)
            for at in range(FEATURES)
        ]
        said = kind
        if self.rng.chance(self.mislabelled):
            said = (kind + 1 + self.rng.below(len(CENTRES) - 1)) % len(CENTRES)
        return np.array(window, dtype=np.float32), said
