"""The twin of a device: what it shall run beside what it says it runs, slot by slot, and what stands in between."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from wire.assignment import Assignment, SlotAssignment
from wire.codec import SPEAKS
from wire.messages import Installed, Outcome, Phase, Reported, SlotReport

BROKEN: Final = frozenset({Phase.FAILED})
"""Phases in which the device has given up; what it runs is what it had."""


class Sync(StrEnum):
    """How a slot stands. The strings are part of the API."""

    IN_SYNC = "in_sync"
    PENDING = "pending"
    INSTALLING = "installing"
    FAILED = "failed"
    UNASSIGNED = "unassigned"


class Skew(StrEnum):
    """How an agent's schemas lie to the hub's. The strings are part of the API."""

    UNKNOWN = "unknown"
    CURRENT = "current"
    BEHIND = "behind"
    AHEAD = "ahead"
    INCOMPATIBLE = "incompatible"


@dataclass(frozen=True, slots=True)
class SlotTwin:
    """One slot. `reason`: why it is not in sync, in words; empty when it is."""

    slot: str
    sync: Sync
    desired: SlotAssignment | None
    reported: SlotReport | None
    reason: str = ""


def compare(desired: Assignment | None, reported: Reported | None) -> tuple[SlotTwin, ...]:
    """Every slot that either of the two names, in order."""
    wanted = {one.slot: one for one in desired.slots} if desired else {}
    told = {one.slot: one for one in reported.slots} if reported else {}
    accepted = desired is not None and reported is not None and reported.sequence >= desired.sequence
    refused = reported.refused if reported is not None and not accepted else ""
    return tuple(
        _slot(name, wanted.get(name), told.get(name), accepted=accepted, refused=refused)
        for name in sorted(wanted.keys() | told.keys())
    )


def skew(speaks: int) -> Skew:
    """Of an agent whose highest schema is `speaks`; 0 = it has not said."""
    if speaks == 0:
        return Skew.UNKNOWN
    lowest, highest = SPEAKS
    if speaks < lowest:
        return Skew.INCOMPATIBLE
    if speaks == highest:
        return Skew.CURRENT
    return Skew.BEHIND if speaks < highest else Skew.AHEAD


def _slot(
    name: str, wanted: SlotAssignment | None, told: SlotReport | None, *, accepted: bool, refused: str
) -> SlotTwin:
    if wanted is None:
        return SlotTwin(name, Sync.UNASSIGNED, None, told, "the device has this slot, and nothing is desired for it")
    if not accepted:
        reason = f"the device refuses the newest assignment: {refused}" if refused else "not accepted by the device yet"
        return SlotTwin(name, Sync.PENDING, wanted, told, reason)
    if told is None:
        return SlotTwin(name, Sync.PENDING, wanted, None, "accepted, not begun yet")
    if _is(told.current, wanted):
        return SlotTwin(name, Sync.IN_SYNC, wanted, told)
    if told.phase in BROKEN or told.outcome not in (None, Outcome.SUCCEEDED):
        return SlotTwin(name, Sync.FAILED, wanted, told, told.reason or f"it ended as {told.outcome}")
    return SlotTwin(name, Sync.INSTALLING, wanted, told, f"the device is at {told.phase}")


def _is(installed: Installed | None, wanted: SlotAssignment) -> bool:
    return installed is not None and (installed.model, installed.version, installed.sha256) == (
        wanted.model,
        wanted.version,
        wanted.sha256,
    )
