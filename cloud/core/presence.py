"""Is a device there? Its newest message says so; its last will or long silence say otherwise.

A will can arrive late, after the device is back. So an offline status of an earlier boot is ignored, and any later
message from the device makes it present again.

Connections blink: for the length of the grace a device that is gone counts as away, not as offline, and an absence is
worth noting only when it was longer.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

GRACE_NS: Final = 60_000_000_000


class Standing(StrEnum):
    """Whether a device is there, as people and policies see it. The strings are part of the API."""

    ONLINE = "online"
    AWAY = "away"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Presence:
    """What the hub believes."""

    online: bool
    boot: int
    seen_ns: int | None


def on_status(before: Presence, *, online: bool, boot: int, now_ns: int) -> Presence:
    """A status message of boot number `boot` arrived; 0 is a last will, which is made before the boot is counted."""
    if 0 < boot < before.boot:
        return before
    return Presence(online, boot, now_ns if online else before.seen_ns)


def on_message(before: Presence, now_ns: int) -> Presence:
    """Anything else arrived from the device."""
    return Presence(True, before.boot, now_ns)


def standing(online: bool, gone_ns: int | None, now_ns: int) -> Standing:
    """`gone_ns`: since when it is offline; None = it is online, or was never there."""
    if online:
        return Standing.ONLINE
    return Standing.AWAY if gone_ns is not None and now_ns - gone_ns < GRACE_NS else Standing.OFFLINE


def absence(gone_ns: int | None, now_ns: int) -> int | None:
    """It is back at `now_ns`: for how long (ns) was it gone, if for longer than the grace?"""
    return now_ns - gone_ns if gone_ns is not None and now_ns - gone_ns >= GRACE_NS else None
