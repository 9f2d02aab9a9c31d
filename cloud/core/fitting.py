"""Which variant of a release a device gets: the first in the order of preference that it can run, by what it reported.

A device that has never reported is not judged here; it judges itself before it downloads anything.
"""

from collections.abc import Sequence

from wire.codec import SCHEMA
from wire.compatibility import unmet_need, unreadable
from wire.messages import Reported
from wire.release import Release, Variant


def preferred(release: Release, chosen: str, pinned: str | None) -> tuple[str, ...]:
    """Names of variants, best first: the one that the plan pins and no other; else the chosen one, then by size."""
    if pinned is not None:
        return (pinned,)
    others = sorted(release.variants, key=lambda one: (one.file.bytes, one.name))
    return (chosen, *(one.name for one in others if one.name != chosen))


def fit(
    release: Release, names: Sequence[str], reported: Reported | None, schema: int = SCHEMA
) -> tuple[Variant | None, str]:
    """The variant that the device gets; or None, and what of the most preferred one it does not meet.

    `schema`: what an agent must speak to be told how the plan wants it.
    """
    problem = "" if reported is None else unreadable(schema, reported.speaks, f"agent {reported.agent}")
    if problem:
        return None, problem
    for name in names:
        variant = release.variant(name)
        assert variant is not None
        need = "" if reported is None else _unmet(variant, reported)
        if not need:
            return variant, ""
        problem = problem or f"variant {name}: {need}"
    others = ", ".join(names[1:])
    return None, problem + (f"; nor can it run {others}" if others else "")


def _unmet(variant: Variant, reported: Reported) -> str:
    """What the device runs or keeps already needs no more room."""
    installed = [one for slot in reported.slots for one in (slot.current, slot.previous, slot.trial) if one is not None]
    held = any(one.sha256 == variant.file.sha256 for one in installed)
    return unmet_need(variant.needs, reported.capabilities, variant.needs.flash_bytes if held else 0)
