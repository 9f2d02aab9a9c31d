"""What is rolled out: models whose versions behave well, or do not on some devices."""

from dataclasses import replace
from typing import Annotated, Literal

import msgspec

from simulator.fakes.runtime import GOLDEN_INPUTS, Manner
from simulator.faults.fault import EVERYBODY, Among, Share, tag_of
from simulator.scenario.population import Name, Strict
from wire.ports import MILLISECOND

MEGABYTE = 1024 * 1024


class Trait(Strict, frozen=True, kw_only=True, tag_field="kind", tag=tag_of):
    """How a version misbehaves, and on which devices."""

    devices: Among = EVERYBODY


class Wrong(Trait, frozen=True, kw_only=True):
    """It does not reproduce all of its golden vectors."""

    golden_matched: Annotated[int, msgspec.Meta(ge=0, lt=GOLDEN_INPUTS)] = 20


class Crashing(Trait, frozen=True, kw_only=True):
    """It takes down the child that tries it, or fails on every input once it is used."""

    when: Literal["tried", "used"] = "tried"


class Slow(Trait, frozen=True, kw_only=True):
    """A prediction takes so long."""

    predict_ms: Annotated[float, msgspec.Meta(gt=0)]


class Leaking(Trait, frozen=True, kw_only=True):
    """The child that tries it grows to this size."""

    rss_mb: Annotated[int, msgspec.Meta(gt=0)]


class Inaccurate(Trait, frozen=True, kw_only=True):
    """It passes all tests, but its answers are right in this share of cases only."""

    accuracy: Share


AnyTrait = Wrong | Crashing | Slow | Leaking | Inaccurate


class Needs(Strict, frozen=True, kw_only=True):
    """What a device must have to run a version."""

    opset: int = 17
    min_version: str = ""
    ram_mb: int = 0
    flash_mb: float = 0.0


class Version(Strict, frozen=True, kw_only=True):
    """One version. `good`: what the rollout ought to find; unless it is said, a version without traits is good."""

    traits: tuple[AnyTrait, ...] = ()
    needs: Needs = Needs()
    good: bool | None = None

    @property
    def is_good(self) -> bool:
        """Ought it to reach the fleet?"""
        return not self.traits if self.good is None else self.good


class Learns(Strict, frozen=True, kw_only=True):
    """Devices can learn with the model. `skill`: how far its published versions know the classes already; with 0.0 they
    take each for the next one."""

    skill: Share = 0.55


class Model(Strict, frozen=True, kw_only=True):
    """A model: its versions in the order in which they are published; any further ones are good."""

    name: Name = "simulated"
    bytes: Annotated[int, msgspec.Meta(ge=1, le=256 * MEGABYTE)] = 130_000
    versions: tuple[Version, ...] = ()
    learns: Learns | None = None

    def version(self, number: int) -> Version:
        """The version with this number, from 1."""
        return self.versions[number - 1] if number <= len(self.versions) else Version()


def manner(before: Manner, trait: AnyTrait) -> Manner:
    """How a version behaves under one trait more."""
    match trait:
        case Wrong():
            return replace(before, golden_matched=trait.golden_matched)
        case Crashing():
            return replace(before, crashes="when tried" if trait.when == "tried" else "when used")
        case Slow():
            return replace(before, predict_ns=int(trait.predict_ms * MILLISECOND))
        case Leaking():
            return replace(before, rss_bytes=trait.rss_mb * MEGABYTE)
        case Inaccurate():
            return replace(before, accuracy=trait.accuracy)
