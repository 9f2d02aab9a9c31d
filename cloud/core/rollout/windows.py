"""When devices may be told: a window opens by cron in an IANA time zone and stays open for a while.

Zones are rules for a place, not offsets: "at 02:00 in Berlin" stays so when the clocks change. Within the window each
device has its own moment, by its place, so that a thousand devices do not start in the same second. Devices get the
openings as moments: no device needs to know a zone, and when the rules of one change, they change here.
"""

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from msgspec import Meta

from wire.assignment import Opening
from wire.ports import SECOND

_FAR: Final = timedelta(days=5 * 366)
Seconds = Annotated[float, Meta(ge=0, le=31 * 86_400)]
Open = Annotated[float, Meta(ge=60, le=7 * 86_400)]
Cron = Annotated[str, Meta(min_length=9, max_length=100)]
Zone = Annotated[str, Meta(min_length=1, max_length=64)]


@dataclass(frozen=True, slots=True)
class Window:
    """Open for `duration_s` from each moment of `cron` (five fields) in `zone`. A device's turn comes within the first
    `jitter_s` of it. What has begun goes on when the window closes: its own timers end it."""

    cron: Cron
    zone: Zone
    duration_s: Open
    jitter_s: Seconds = 0.0


def why_never(window: Window, now_ns: int) -> str:
    """Why the window cannot be used; empty when it opens within the next years."""
    try:
        zone = ZoneInfo(window.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"there is no time zone {window.zone!r}; write it as in Europe/Berlin"
    if window.jitter_s >= window.duration_s:
        return "the jitter must be shorter than the window"
    now = datetime.fromtimestamp(now_ns / 1e9, zone)
    try:
        first = next(CronSim(window.cron, now), None)
    except CronSimError as error:
        return f"cron {window.cron!r}: {error}; write five fields, as in '0 2 * * *'"
    if first is None or first - now > _FAR:
        return f"cron {window.cron!r} never comes"
    return ""


def open_share(window: Window | None, now_ns: int) -> float:
    """Which share of the devices (0..1, by their place) may be told now; 0 while it is closed."""
    if window is None:
        return 1.0
    opened_s = _opened_s(window, now_ns)
    if opened_s is None:
        return 0.0
    past_s = now_ns / 1e9 - opened_s
    return 1.0 if past_s >= window.jitter_s else past_s / window.jitter_s


def openings(window: Window, share: float, now_ns: int, number: int) -> tuple[Opening, ...]:
    """The present opening and those that follow, `number` in all, as they are for a device at this share (0..1)."""
    opened_s = _opened_s(window, now_ns)
    following = (moment.timestamp() for moment in CronSim(window.cron, _local(window, now_ns)))
    begins = itertools.chain(() if opened_s is None else (opened_s,), following)
    late_s = share * window.jitter_s
    return tuple(
        Opening(from_ns=int((begin + late_s) * SECOND), until_ns=int((begin + window.duration_s) * SECOND))
        for begin in itertools.islice(begins, number)
    )


def _opened_s(window: Window, now_ns: int) -> float | None:
    """When the window that is open now opened; None = it is closed."""
    minute = _local(window, now_ns).replace(second=0, microsecond=0)
    last = next(CronSim(window.cron, minute + timedelta(minutes=1), reverse=True), None)
    if last is None or not 0 <= now_ns / 1e9 - last.timestamp() < window.duration_s:
        return None
    return last.timestamp()


def _local(window: Window, now_ns: int) -> datetime:
    return datetime.fromtimestamp(now_ns / 1e9, UTC).astimezone(ZoneInfo(window.zone))
