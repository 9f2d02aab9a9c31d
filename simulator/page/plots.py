"""Plots as inline SVG: lines with bands over time, lanes of events, stacked bars. Colours are the page style's."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from simulator.page.bands import Band
from simulator.report import Mark

HEIGHT, TOP, BOTTOM = 250, 14, 30
LANE, BAR = 22, 34
HUES = 6
"""Colours of the style: what comes after the last one begins again."""
_TIME_STEPS_S = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000, 8_640_000),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the drawing begins and ends, from the left."""

    left: float
    right: float
    width: float

    def x(self, at_s: float, until_s: float) -> float:
        """Where a moment is."""
        return self.left + min(1.0, max(0.0, at_s / max(until_s, 1e-9))) * (self.right - self.left)


PLOT = Frame(52, 626, 640)
BARS = Frame(128, 626, 640)
LANES = Frame(128, 1078, 1092)


@dataclass(frozen=True, slots=True)
class Line:
    """A band under a name."""

    name: str
    band: Band


@dataclass(frozen=True, slots=True)
class Axis:
    """What the height means: its top (None: as high as the lines go), and the unit behind its numbers."""

    unit: str = ""
    top: float | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a stacked bar. `look` is a class of the style."""

    name: str
    value: float
    look: str


def lines(title: str, shown: Sequence[Line], until_s: float, axis: Axis) -> str:
    """A figure with one line, and its band, for each of `shown`."""
    top = _round_up(max((line.band.top for line in shown), default=1.0) if axis.top is None else axis.top)
    body = [_grid(until_s, top, axis.unit)]
    for number, line in enumerate(shown):
        body.append(_band(line, until_s, top, number % HUES))
    return _figure(
        title, "".join(body), (PLOT.width, HEIGHT), _legend([line.name for line in shown]) if len(shown) > 1 else ""
    )


def lanes(title: str, marks: Sequence[Mark], until_s: float) -> str:
    """A wide figure with a lane for each kind of event, a dot for each event."""
    ordered = sorted(marks, key=lambda mark: mark.kind, reverse=True)
    rows = {name: row for row, name in enumerate(dict.fromkeys(map(_lane_of, ordered)))}
    bottom = TOP + LANE * max(1, len(rows))
    body = [_times(LANES, until_s, TOP, bottom)]
    for name, row in rows.items():
        y = TOP + LANE * (row + 0.5)
        body.append(f'<line class="rule" x1="{LANES.left}" y1="{y:.1f}" x2="{LANES.right}" y2="{y:.1f}"/>')
        body.append(_tick(LANES.left - 10, y + 4, name, "end"))
    for mark in marks:
        x, y = LANES.x(mark.at_s, until_s), TOP + LANE * (rows[_lane_of(mark)] + 0.5)
        said = escape(f"{_clock(mark.at_s)}: {mark.what}")
        dot = f'<circle class="dot {escape(mark.kind)}" cx="{x:.1f}" cy="{y:.1f}" r="4.5">'
        body.append(f"{dot}<title>{said}</title></circle>")
    return _figure(title, "".join(body), (LANES.width, bottom + BOTTOM), "")


def bars(title: str, rows: Sequence[tuple[str, Sequence[Part]]]) -> str:
    """A figure with a stacked bar for each row; all have the same length."""
    height = TOP + BAR * len(rows) + 6
    body, parts = [], dict[str, str]()
    for number, (name, pieces) in enumerate(rows):
        y, x = TOP + BAR * number, BARS.left
        total = sum(piece.value for piece in pieces) or 1.0
        body.append(_tick(BARS.left - 10, y + 16, name, "end"))
        for piece in pieces:
            width = piece.value / total * (BARS.right - BARS.left)
            said = f"{piece.name}: {piece.value:.4g} of {total:.4g}"
            body.append(
                f'<rect class="{piece.look}" x="{x:.1f}" y="{y}" width="{max(0.0, width - 1):.1f}" height="22" rx="3">'
                f"<title>{escape(said)}</title></rect>"
            )
            if width > 34:
                body.append(f'<text class="inside" x="{x + width / 2:.1f}" y="{y + 15}">{piece.value:.4g}</text>')
            x += width
            if piece.value:
                parts[piece.name] = piece.look
    legend = "".join(f'<span><i class="{look}"></i>{escape(name)}</span>' for name, look in parts.items())
    return _figure(title, "".join(body), (BARS.width, height), legend)


def _figure(title: str, body: str, size: tuple[float, float], legend: str) -> str:
    caption = f"<figcaption><b>{escape(title)}</b><span class='legend'>{legend}</span></figcaption>"
    width, height = (f"{one:.0f}" for one in size)
    look = f'viewBox="0 0 {width} {height}" style="--width:{width}px" role="img" aria-label="{escape(title)}"'
    drawing = f"<svg {look}>{body}</svg>"
    return f"<figure>{caption}<div class='drawing'>{drawing}</div></figure>"


def _legend(names: Iterable[str]) -> str:
    return "".join(
        f'<span><i class="hue{number % HUES}"></i>{escape(name)}</span>' for number, name in enumerate(names)
    )


def _band(line: Line, until_s: float, top: float, hue: int) -> str:
    found = line.band
    xs = [PLOT.x(at_s, until_s) for at_s in found.at_s]
    upper = [f"{x:.1f},{_y(value, top):.1f}" for x, value in zip(xs, found.high, strict=True)]
    lower = [f"{x:.1f},{_y(value, top):.1f}" for x, value in zip(xs, found.low, strict=True)]
    middle = [f"{x:.1f},{_y(value, top):.1f}" for x, value in zip(xs, found.middle, strict=True)]
    area = (
        ""
        if found.low == found.high
        else f'<polygon class="band hue{hue}" points="{" ".join([*upper, *lower[::-1]])}"/>'
    )
    said = f"{line.name}: {found.middle[-1]:.4g} at the end"
    return f'{area}<polyline class="line hue{hue}" points="{" ".join(middle)}"><title>{escape(said)}</title></polyline>'


def _grid(until_s: float, top: float, unit: str) -> str:
    rows = []
    for number in range(5):
        y = _y(top * number / 4, top)
        rows.append(f'<line class="rule" x1="{PLOT.left}" y1="{y:.1f}" x2="{PLOT.right}" y2="{y:.1f}"/>')
        rows.append(_tick(PLOT.left - 8, y + 4, _short(top * number / 4, unit), "end"))
    return "".join(rows) + _times(PLOT, until_s, TOP, HEIGHT - BOTTOM)


def _times(frame: Frame, until_s: float, top: float, bottom: float) -> str:
    step = next((one for one in _TIME_STEPS_S if until_s / one <= 8), _TIME_STEPS_S[-1])
    found = []
    for number in range(int(until_s // step) + 1):
        x = frame.x(number * step, until_s)
        found.append(f'<line class="rule faint" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom:.1f}"/>')
        found.append(_tick(x, bottom + 18, _clock(number * step), "middle"))
    return "".join(found)


def _tick(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _y(value: float, top: float) -> float:
    return TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM)


def _lane_of(mark: Mark) -> str:
    """Faults have a lane by kind; the operator has one for all that he does."""
    return mark.what if mark.kind == "fault" else "operator"


def _clock(seconds: float) -> str:
    """A time on an axis: 90 s, 5 min, 2 h, 3 d."""
    for unit, size_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size_s:
            return f"{seconds / size_s:.3g} {unit}"
    return f"{seconds:.3g} s"


def _short(value: float, unit: str) -> str:
    """A number on an axis: 12, 75 %, 1.5 MB."""
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}\u202f{prefix}{unit}"
    return f"{value:.3g}\u202f{unit}" if unit else f"{value:.3g}"


def _round_up(value: float) -> float:
    """The next of 1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8 times a power of ten: quarters of it are short numbers."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if power * step >= value * 0.999999)
