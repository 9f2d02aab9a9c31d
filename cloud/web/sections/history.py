"""Where the versions came from (lineage), and what happened last (audit)."""

import re
from itertools import groupby

from cloud.service.overview.shapes import EventView, Overview, VersionView
from cloud.web.figures import clock
from cloud.web.markup import Markup, card, empty, join, tag

EVENTS = 9
DIGEST = 10
SHORT_ID = 8
LONG_ID = re.compile(r"\b[0-9a-f]{16,}\b")


def lineage(overview: Overview) -> Markup:
    """One chain from the data to the newest version."""
    hint = "One id follows the model all the way round."
    if not overview.versions:
        return card("Lineage", hint, empty("No version yet."), class_="lineage")
    return card("Lineage", hint, tag("ol", *(_step(version) for version in overview.versions)), class_="lineage")


def _step(version: VersionView) -> Markup:
    if version.origin == "federated":
        origin = join(
            f"learned by the fleet from version {version.parent_version}, run ", _id(version.federated_run or "")
        )
    else:
        origin = join("trained on data ", _id(version.data_sha256))
    state = tag("span", version.state.replace("_", " "), class_=f"state {version.state}")
    return tag(
        "li",
        tag("b", f"{version.model} v{version.version} "),
        state,
        tag("p", origin, ", job ", _id(version.job)),
        tag("p", version.reason) if version.reason else None,
    )


def _id(text: str) -> Markup:
    return tag("code", text[:DIGEST] or "?", title=text)


def events(overview: Overview) -> Markup:
    """The newest lines of the audit trail, runs of one action by one kind of actor folded into one."""
    hint = "Every change with who made it, newest first."
    if not overview.events:
        return card("Events", hint, empty("Nothing has happened yet."), class_="events")
    folded = [list(run) for _, run in groupby(overview.events, key=lambda event: (_kind(event), event.action))]
    return card("Events", hint, tag("ul", *(_line(run) for run in folded[:EVENTS])), class_="events")


def _line(run: list[EventView]) -> Markup:
    newest = run[0]
    return tag(
        "li",
        tag("time", clock(newest.at_ns)),
        tag("b", newest.action),
        tag("span", _what(newest, len(run) - 1), title=newest.detail),
        tag("em", newest.actor if len(run) == 1 else _kind(newest)),
    )


def _kind(event: EventView) -> str:
    """`device:p01-left` is one of many devices."""
    return event.actor.partition(":")[0]


def _what(event: EventView, earlier: int) -> str:
    text = event.subject
    if earlier:
        text += f" and {earlier} before it"
    elif event.detail:
        text += f" ({event.detail})"
    return LONG_ID.sub(lambda found: found[0][:SHORT_ID], text)
