"""When a device may begin to download or to install: the openings that its assignment grants, by the director's time.

The hub has turned its plan's hours and zone into moments, so a device needs neither a database of time zones nor a
clock of its own: only the time that the director has signed. What has begun inside goes on when the opening is over.
"""

from collections.abc import Sequence

import msgspec

from wire.assignment import Opening, SlotAssignment


def to_fetch(desired: SlotAssignment) -> tuple[Opening, ...]:
    """When the download may begin; empty = whenever."""
    windows = desired.execution.windows
    return () if windows is msgspec.UNSET else windows.download


def to_install(desired: SlotAssignment) -> tuple[Opening, ...]:
    """When what has been downloaded may be tried; empty = whenever."""
    windows = desired.execution.windows
    return () if windows is msgspec.UNSET else windows.install


def spent(desired: SlotAssignment) -> SlotAssignment:
    """The same for what has begun in its windows and was carried out: when it went bad, it is repaired at any time."""
    execution = msgspec.structs.replace(desired.execution, windows=msgspec.UNSET)
    return msgspec.structs.replace(desired, execution=execution)


def wait_ns(openings: Sequence[Opening], now_ns: int) -> int | None:
    """How long to wait for the next opening: 0 = begin now, None = all of them are over."""
    ahead = [max(0, one.from_ns - now_ns) for one in openings if one.until_ns > now_ns]
    return min(ahead, default=None) if openings else 0
