"""What all faults have in common: when they come, how often, and whom they hit."""

from collections.abc import Sequence
from typing import Annotated, Protocol, TypeVar

import msgspec

from simulator.core.rng import Rng
from simulator.durations import Duration

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
FleetSize = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
"""More would not fit into any memory: a typing error is said before a machine is brought down."""


class Hit(Protocol):
    """What is asked of a device to find out whether it is meant."""

    @property
    def name(self) -> str:
        """Its name in the fleet."""

    @property
    def device_class(self) -> str:
        """Its class in the population; empty: it has none."""


D = TypeVar("D", bound=Hit)


class Among(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"device_class": "class"}):
    """Which devices: those of a class, or with these names; of them a share (rounded up), or a number. Default: all."""

    device_class: str = ""
    names: tuple[str, ...] = ()
    share: Share = 1.0
    count: Count | None = None

    def meant(self, devices: Sequence[D]) -> list[D]:
        """Everybody in question, in order."""
        named = frozenset(self.names)
        return [
            one for one in devices if self.device_class in ("", one.device_class) and (not named or one.name in named)
        ]

    def pick(self, devices: Sequence[D], rng: Rng) -> list[D]:
        """As many as are wanted, by chance, in order of their names."""
        candidates = self.meant(devices)
        wanted = -int(-self.share * len(candidates) // 1) if self.count is None else min(self.count, len(candidates))
        if wanted == len(candidates):
            return candidates
        rng.shuffle(candidates)
        return sorted(candidates[:wanted], key=lambda one: one.name)


EVERYBODY = Among()


class Moment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When something happens: `at` from the start; or from when the step `since` was carried out, or from when the
    rollout that the step `after` began came to rest."""

    at: Duration = "0s"
    since: str = ""
    after: str = ""


def tag_of(name: str) -> str:
    """PowerCut -> power_cut."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


class Fault(Moment, frozen=True, kw_only=True, tag_field="kind", tag=tag_of):
    """A fault comes at its moment; with `times`, so often at random moments `within` a span from then."""

    times: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1
    within: Duration = "0s"
