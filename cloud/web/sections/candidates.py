"""Every form of a version that the optimizer measured: what it weighs, what it costs, whether it was kept, why not."""

from cloud.service.overview.shapes import CandidateView, Overview, VersionView
from cloud.web.figures import latency, share, size
from cloud.web.markup import Markup, card, empty, join, tag

HEADS = ("", "size", "", "accuracy", "p50", "")


def render(overview: Overview) -> Markup:
    """One table, newest version first."""
    hint = "Measured in a fresh process before anything is signed. What fails a gate never leaves the hub."
    versions = [version for version in reversed(overview.versions) if version.candidates]
    if not versions:
        return card("Candidates", hint, empty("The optimizer has not finished a version yet."), class_="candidates")
    head = tag("tr", *(tag("th", name) for name in HEADS))
    return card(
        "Candidates", hint, tag("table", head, *(_version(version) for version in versions[:3])), class_="candidates"
    )


def _version(version: VersionView) -> Markup:
    largest = max([version.fp32_bytes, *(candidate.bytes for candidate in version.candidates)])
    title = tag("tr", tag("th", f"Version {version.version}", colspan=len(HEADS)), class_="version")
    return join(title, *(_row(candidate, largest) for candidate in version.candidates))


def _row(candidate: CandidateView, largest: int) -> Markup:
    bar = tag("i", style=f"width: {max(2.0, 100 * candidate.bytes / max(1, largest)):.0f}%")
    state = "shipped" if candidate.shipped else ("kept" if candidate.kept else "refused")
    why = "" if candidate.kept else "; ".join(candidate.reasons)
    return tag(
        "tr",
        tag("td", candidate.name),
        tag("td", size(candidate.bytes), class_="number"),
        tag("td", bar, class_="size"),
        tag("td", share(candidate.accuracy, digits=3), class_="number"),
        tag("td", latency(candidate.p50_ms), class_="number"),
        tag("td", tag("span", state, class_=f"state {state}"), tag("small", why) if why else None),
        class_=state,
    )
