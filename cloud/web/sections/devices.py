"""The fleet as a grid: one column per person, one row per arm, colour for accuracy. Other fleets get a plain list.

The two labels that span the grid are `COLUMN` and `ROW`; devices without them are listed below it.
"""

from collections.abc import Sequence

from cloud.service.overview.shapes import DeviceView, Overview
from cloud.web.figures import accuracy_colour, ink_on, latency, percent, share
from cloud.web.markup import Markup, card, empty, join, tag

COLUMN, ROW, ROLE, UNSEEN = "person", "arm", "role", "unseen"
BUSY = {
    "waiting_to_fetch": "waiting for its window",
    "fetching_release": "fetching",
    "fetching": "fetching",
    "waiting_to_install": "waiting for its window",
    "verifying": "verifying",
    "trial": "on trial",
}


def render(overview: Overview) -> Markup:
    """The grid of all devices."""
    hint = "One watch per arm. Colour and figure: how often it was right with the version it runs now."
    if not overview.devices:
        return card("Fleet", hint, empty("No device has enrolled yet."), class_="fleet")
    placed = [device for device in overview.devices if COLUMN in device.labels and ROW in device.labels]
    others = [device for device in overview.devices if device not in placed]
    parts = [_grid(placed)] if placed else []
    if others:
        parts.append(tag("div", *(_cell(device) for device in others), class_="cells"))
    return card("Fleet", hint, *parts, _legend(), class_="fleet")


def _grid(devices: Sequence[DeviceView]) -> Markup:
    columns = sorted({(_is_unseen(d), d.labels[COLUMN]) for d in devices})
    rows = sorted({device.labels[ROW] for device in devices}, reverse=True)
    at = {(device.labels[COLUMN], device.labels[ROW]): device for device in devices}
    head = join(tag("span"), *(_column_head(name, unseen) for unseen, name in columns))
    body = join(*(join(tag("span", row, class_="side"), *(_at(at, name, row) for _, name in columns)) for row in rows))
    template = f"grid-template-columns: 52px repeat({len(columns)}, minmax(0, 1fr))"
    return tag("div", head, body, class_="grid", style=template)


def _at(at: dict[tuple[str, str], DeviceView], column: str, row: str) -> Markup:
    device = at.get((column, row))
    return tag("span") if device is None else _cell(device)


def _column_head(name: str, unseen: bool) -> Markup:
    mark = tag("em", UNSEEN) if unseen else None
    return tag("span", name, mark, class_="top unseen" if unseen else "top")


def _is_unseen(device: DeviceView) -> bool:
    return device.labels.get(ROLE) == UNSEEN


def _cell(device: DeviceView) -> Markup:
    accuracy = device.quality.accuracy
    classes = ["cell"]
    if not device.online:
        classes.append("offline")
    if device.phase in BUSY:
        classes.append("busy")
    if device.phase == "failed" or device.note:
        classes.append("bad")
    version = f"v{device.version}" if device.version is not None else "no model"
    style = f"background: {accuracy_colour(accuracy)}; color: {ink_on(accuracy)}"
    return tag(
        "div",
        tag("strong", share(accuracy)),
        tag("span", _state(device, version)),
        class_=" ".join(classes),
        style=style,
        title=_title(device),
    )


def _state(device: DeviceView, version: str) -> str:
    if not device.online:
        return "offline"
    return BUSY.get(device.phase, version)


def _title(device: DeviceView) -> str:
    quality = device.quality
    lines = [
        device.name,
        f"{device.variant or 'no variant'}, {device.phase.replace('_', ' ')}",
        f"accuracy {share(quality.accuracy)}, confidence {percent(quality.confidence)}",
        f"{quality.predictions} predictions, median {latency(quality.p50_ms)}",
        f"{device.updates_sent} federated updates sent",
        device.note,
    ]
    return "\n".join(line for line in lines if line)


def _legend() -> Markup:
    steps = [tag("i", style=f"background: {accuracy_colour(0.2 + 0.1 * step)}") for step in range(9)]
    return tag(
        "div",
        tag("span", "accuracy 0.2"),
        tag("span", *steps, class_="scale"),
        tag("span", "1.0"),
        tag("span", tag("i", class_="dot busy"), "installing", class_="key"),
        tag("span", tag("i", class_="dot bad"), "refused or failed", class_="key"),
        tag("span", tag("i", class_="dot offline"), "offline", class_="key"),
        class_="legend",
    )
