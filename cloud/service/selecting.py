"""Selectors as conditions on the database, evaluated there and then: what a device is now decides, not what it was.

`cloud.core.selector.matches` says the same of one device; a test holds the two against each other.
"""

from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, and_, case, false, func, or_, select, true

from cloud.core.selector import Operator, Selector, SelectorError, Term, equal, parse
from cloud.errors import InvalidError
from cloud.tables import device_groups, devices, slots

GROUP = "@group"
"""In the selector of a rollout or federated run: the name of a group."""
_FLAGS = {
    "@online": devices.c.online,
    "@federated": devices.c.federated,
    "@held": devices.c.held_ns.is_not(None),
}
_TEXTS = {"@name": devices.c.name, "@agent": devices.c.agent}


def written(text: str) -> ColumnElement[bool]:
    """Devices that a written selector means. Raises InvalidError."""
    try:
        return condition(parse(text))
    except SelectorError as error:
        raise InvalidError(str(error)) from error


def selected(conn: Connection, pairs: Mapping[str, str]) -> ColumnElement[bool]:
    """Devices that have all of these labels, and belong to the group that `@group` names. Raises InvalidError."""
    clause = labelled({name: value for name, value in pairs.items() if name != GROUP})
    return and_(clause, of_group(conn, pairs[GROUP])) if GROUP in pairs else clause


def labelled(pairs: Mapping[str, str]) -> ColumnElement[bool]:
    """Devices that have all of these labels. Raises InvalidError."""
    try:
        return condition(equal(pairs))
    except SelectorError as error:
        raise InvalidError(str(error)) from error


def of_group(conn: Connection, name: str) -> ColumnElement[bool]:
    """Devices that belong to a group now. Raises InvalidError when there is no such group."""
    selector = conn.scalar(select(device_groups.c.selector).where(device_groups.c.name == name))
    if selector is None:
        raise InvalidError(f"there is no group {name!r}")
    return written(selector)


def why_nobody(conn: Connection, pairs: Mapping[str, str], *kept: tuple[ColumnElement[bool], str]) -> str:
    """How many devices these labels mean, and what keeps how many of them out: that they are not of the fleet, or else
    the first of `kept` (a condition, and what it is called) that holds. Raises InvalidError."""
    outside = (
        (devices.c.decommissioned_ns.is_not(None), "decommissioned"),
        (devices.c.revoked_ns.is_not(None), "revoked"),
        (devices.c.enrolled_ns.is_(None), "not enrolled yet"),
    )
    query = select(case(*outside, *kept).label("reason"), func.count().label("devices"))
    found = conn.execute(query.where(selected(conn, pairs)).group_by("reason").order_by("reason")).all()
    meant = ", ".join(f"{name}={value}" for name, value in sorted(pairs.items()))
    reasons = ", ".join(f"{row.devices} {row.reason}" for row in found)
    said = f"devices that match {meant}" if meant else "devices in all"
    return f"nobody can take part: {said}: {sum(row.devices for row in found)}{reasons and f' ({reasons})'}"


def condition(selector: Selector) -> ColumnElement[bool]:
    """The condition on `devices`."""
    return and_(true(), *(_term(term) for term in selector.terms))


def _term(term: Term) -> ColumnElement[bool]:
    if term.name in _FLAGS:
        return _flag(term, _FLAGS[term.name])
    if term.name in ("@model", "@version"):
        return _installed(term)
    text = _TEXTS.get(term.name)
    value = devices.c.labels[term.name].as_string() if text is None else text
    there = value.is_not(None) if text is None else value != ""
    match term.operator:
        case Operator.IN:
            return and_(there, value.in_(term.values))
        case Operator.NOT_IN:
            return or_(~there, value.not_in(term.values))
        case Operator.EXISTS:
            return there
        case Operator.ABSENT:
            return ~there


def _flag(term: Term, flag: ColumnElement[bool]) -> ColumnElement[bool]:
    """Flags are always there, as "true" or "false"."""
    either = [flag if value == "true" else ~flag for value in term.values if value in ("true", "false")]
    match term.operator:
        case Operator.IN:
            return or_(false(), *either)
        case Operator.NOT_IN:
            return ~or_(false(), *either)
        case Operator.EXISTS:
            return true()
        case Operator.ABSENT:
            return false()


def _installed(term: Term) -> ColumnElement[bool]:
    """What any slot runs."""
    running = select(slots.c.device).where(slots.c.device == devices.c.name, slots.c.model.is_not(None))
    if term.operator in (Operator.EXISTS, Operator.ABSENT):
        return running.exists() if term.operator is Operator.EXISTS else ~running.exists()
    among = or_(false(), *(_runs(term.name, value) for value in term.values))
    found = running.where(among).exists()
    return found if term.operator is Operator.IN else ~found


def _runs(name: str, value: str) -> ColumnElement[bool]:
    if name == "@model":
        return slots.c.model == value
    model, _, number = value.rpartition("/")
    if not number.isdecimal() or len(number) > 9:
        return false()
    return and_(slots.c.model == model, slots.c.version == int(number))
