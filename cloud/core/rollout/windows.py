"""When devices may be told: a window opens by cron in an IANA time zone and stays open for a while.

Zones are rules for a place, not offsets: "at 02:00 in Berlin" stays so when the clocks change. Within the window each
device has its own moment, by its place, so that a thousand devices do not start in the same second.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

_FAR: Final = timedelta(days=5 * 366)


@dataclass(frozen=True, slots=True)
class Window:
    """Open for `duration_s` from each moment of `cron` (five fields) in `zone`. A device's turn comes within the first
    `jitter_s` of it. An execution that has begun goes on when the window closes: its own timers end it."""

    cron: str
    zone: str
    duration_s: float
    jitter_s: float = 0.0


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
    now = datetime.fromtimestamp(now_ns / 1e9, UTC).astimezone(ZoneInfo(window.zone))
    last = next(CronSim(window.cron, now.replace(second=0, microsecond=0) + timedelta(minutes=1), reverse=True), None)
    if last is None:
        return 0.0
    past_s = now.timestamp() - last.timestamp()
    if not 0 <= past_s < window.duration_s:
        return 0.0
    return 1.0 if past_s >= window.jitter_s else past_s / window.jitter_s
