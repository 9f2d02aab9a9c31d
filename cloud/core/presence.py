"""Is a device there? Its newest message says so; its last will or long silence say otherwise.

A will can arrive late, after the device is back. So an offline status of an earlier boot is ignored, and any later
message from the device makes it present again.
"""

from dataclasses import dataclass


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
