"""The top line: what the loop does right now, and the fleet in four figures."""

from cloud.service.overview.shapes import Overview
from cloud.web.figures import clock
from cloud.web.markup import Markup, tag


def render(overview: Overview) -> Markup:
    """Headline and figures."""
    online = sum(device.online for device in overview.devices)
    figures = [
        _figure(f"{online} / {len(overview.devices)}", "devices online"),
        _figure(_release(overview), "newest version"),
        _figure(f"{sum(d.quality.predictions for d in overview.devices):,}", "predictions by it"),
        _figure(clock(overview.now_ns), "hub time"),
    ]
    words = tag("div", tag("span", "Fleetloop", class_="brand"), tag("h1", overview.headline), class_="words")
    return tag("div", words, tag("div", *figures, class_="figures"), class_="banner")


def _release(overview: Overview) -> str:
    if not overview.versions:
        return "none yet"
    newest = overview.versions[-1]
    return f"{newest.model} v{newest.version}"


def _figure(value: str, name: str) -> Markup:
    return tag("div", tag("strong", value), tag("span", name), class_="figure")
