"""Confidence beside accuracy, per group of devices and version. The distance between the two is the point."""

from collections.abc import Sequence

from cloud.service.overview.shapes import GroupView, Overview
from cloud.web.figures import OVERCONFIDENT_GAP, accuracy_colour, overconfident, percent, share
from cloud.web.markup import Markup, card, empty, tag

ROW, ROLE, UNSEEN = "arm", "role", "unseen"


def render(overview: Overview) -> Markup:
    """One line per group and version: accuracy as a dot, confidence as a ring, the gap between them as a bar."""
    hint = "What the devices measured against feedback, and how sure the model was."
    groups = [group for group in overview.groups if group.quality.accuracy is not None]
    if not groups:
        return card("Is it right, and does it know?", hint, empty("No feedback from devices yet."), class_="quality")
    names = sorted({_name(group) for group in groups}, key=_order)
    blocks = [_block(name, [group for group in groups if _name(group) == name]) for name in names]
    return card("Is it right, and does it know?", hint, *blocks, _axis(), _verdict(groups), class_="quality")


def _name(group: GroupView) -> str:
    row, role = group.labels.get(ROW), group.labels.get(ROLE)
    if row is None:
        return "all devices"
    return f"{row} arms" + (f" of {'unseen people' if role == UNSEEN else 'people who train'}" if role else "")


def _order(name: str) -> tuple[bool, bool]:
    return ("left" in name, UNSEEN in name)


def _block(name: str, groups: Sequence[GroupView]) -> Markup:
    lines = [_line(group) for group in sorted(groups, key=lambda group: group.version)]
    return tag("div", tag("span", name, class_="name"), tag("div", *lines, class_="lines"), class_="group")


def _line(group: GroupView) -> Markup:
    accuracy, confidence = group.quality.accuracy or 0.0, group.quality.confidence
    gap = _gap(accuracy, confidence, overconfident(group.quality))
    dot = tag("i", class_="accuracy", style=f"left: {100 * accuracy:.1f}%; background: {accuracy_colour(accuracy)}")
    ring = None if confidence is None else tag("i", class_="confidence", style=f"left: {100 * confidence:.1f}%")
    values = tag("span", tag("b", share(accuracy)), f" / {share(confidence)}", class_="values")
    return tag(
        "div",
        tag("span", f"v{group.version}", class_="version"),
        tag("div", gap, ring, dot, class_="track"),
        values,
        class_="line",
    )


def _gap(accuracy: float, confidence: float | None, alarming: bool) -> Markup | None:
    if confidence is None:
        return None
    low, high = sorted((accuracy, confidence))
    style = f"left: {100 * low:.1f}%; width: {100 * (high - low):.1f}%"
    return tag("i", class_="gap alarming" if alarming else "gap", style=style)


def _axis() -> Markup:
    marks = [tag("i", f"{mark / 4:g}", style=f"left: {25 * mark}%") for mark in range(5)]
    keys = tag("span", tag("i", class_="dot accuracy"), "accuracy ", tag("i", class_="dot confidence"), "confidence")
    return tag("div", tag("span", keys, class_="name"), tag("div", *marks, class_="axis"), class_="group foot")


def _verdict(groups: Sequence[GroupView]) -> Markup:
    newest = max(group.version for group in groups)
    wrong = [group for group in groups if group.version == newest and overconfident(group.quality)]
    gain = _gain(groups, newest)
    if not wrong:
        close = percent(OVERCONFIDENT_GAP)
        calm = f"On every group, version {newest} is right nearly as often as it is sure (within {close}). "
        return tag("p", calm, gain, class_="verdict calm")
    worst = min(wrong, key=lambda group: group.quality.accuracy or 0.0)
    told = (
        f"On {_name(worst)} it is right {percent(worst.quality.accuracy)} of the time and "
        f"{percent(worst.quality.confidence)} sure. "
    )
    return tag(
        "p", tag("b", f"Version {newest} does not know when it is wrong. "), told, gain, class_="verdict alarming"
    )


def _gain(groups: Sequence[GroupView], newest: int) -> Markup | None:
    """The group that the newest version moved most against the one before it; people it never learned from first."""
    at = {(group.version, _name(group)): group.quality.accuracy or 0.0 for group in groups}
    before = max((version for version, _ in at if version < newest), default=None)
    moves = [
        (at[newest, name], at[before, name], name) for version, name in at if version == before and (newest, name) in at
    ]
    if before is None or not moves:
        return None
    after, earlier, name = max(moves, key=lambda move: (UNSEEN in move[2], abs(move[0] - move[1])))
    return tag(
        "span",
        f"{name[0].upper()}{name[1:]}: {share(earlier)} with version {before}, ",
        tag("b", share(after)),
        " now.",
    )
