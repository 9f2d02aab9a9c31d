"""How figures are written and coloured on the page: shares, bytes, milliseconds, and one colour scale of accuracy."""

from datetime import UTC, datetime

from cloud.service.overview.shapes import Quality, VersionView

NOTHING = "–"
NARROW = "\N{NARROW NO-BREAK SPACE}"
OVERCONFIDENT_GAP = 0.20
"""Confidence above accuracy by more than this is called out in words."""

_LOW, _MIDDLE, _HIGH = (200, 72, 20), (246, 236, 214), (8, 112, 94)
_MIDPOINT = 0.6


def share(value: float | None, digits: int = 2) -> str:
    """A share of one."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share of one as whole percent."""
    return NOTHING if value is None else f"{100 * value:.0f}{NARROW}%"


def size(count: float) -> str:
    """Bytes in decimal units."""
    if count >= 1e6:
        return f"{count / 1e6:.2f} MB"
    return f"{count / 1e3:.1f} kB" if count >= 1e3 else f"{count:.0f} B"


def latency(value: float | None) -> str:
    """A latency, in microseconds below one millisecond."""
    if value is None:
        return NOTHING
    return f"{value:.2f} ms" if value >= 1 else f"{1000 * value:.0f} µs"


def clock(at_ns: int) -> str:
    """Time of day, local."""
    return datetime.fromtimestamp(at_ns / 1e9, tz=UTC).astimezone().strftime("%H:%M:%S")


def accuracy_colour(accuracy: float | None) -> str:
    """Orange (wrong) over sand to teal (right): told apart by every kind of colour vision."""
    if accuracy is None:
        return "var(--line)"
    if accuracy < _MIDPOINT:
        return _mix(_LOW, _MIDDLE, max(0.0, accuracy - 0.2) / (_MIDPOINT - 0.2))
    return _mix(_MIDDLE, _HIGH, (accuracy - _MIDPOINT) / (1 - _MIDPOINT))


def ink_on(accuracy: float | None) -> str:
    """Text colour that reads on `accuracy_colour`."""
    return "#fff" if accuracy is not None and not 0.34 < accuracy < 0.9 else "var(--ink)"


def overconfident(quality: Quality) -> bool:
    """Is the model much surer than it is right?"""
    if quality.accuracy is None or quality.confidence is None:
        return False
    return quality.confidence - quality.accuracy > OVERCONFIDENT_GAP


def shipped_bytes(version: VersionView) -> int | None:
    """Bytes of the variant that rollouts ship."""
    return next((candidate.bytes for candidate in version.candidates if candidate.shipped), None)


def _mix(low: tuple[int, int, int], high: tuple[int, int, int], weight: float) -> str:
    channels = (round(a + (b - a) * min(1.0, weight)) for a, b in zip(low, high, strict=True))
    return f"rgb({', '.join(map(str, channels))})"
