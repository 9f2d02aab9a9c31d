"""A fleet as it should be, in YAML, against the fleet as it is: what `plan` shows, `apply` does and `export` writes.

What the file does not name is left alone, and so is every rollout that has been decided: a halted one waits for a
person. Applying the same file again changes nothing.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec

from fleetloop.client import Json
from simulator.scenario.places import Path, Places, convert, load, malformed
from wire.topics import NAME_RULE, valid_name

GOING_ON = ("running", "waiting_for_approval", "paused")
GROUP = "@group"
APPLIED = "applied from a fleet file"
BESIDE_PLAN = ("model", "version", "selector", "slot", "variant")
"""What the file says of a rollout beside its plan."""

Verb: TypeAlias = Literal[
    "put_group", "claim", "label", "edit", "hold", "release", "pin", "unpin", "roll_out", "nothing", "give_up"
]
"""`nothing`: it is left to a person, and the rest is done; `give_up`: nothing of the file can be done."""


class WantedGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A selector under a name; a description that is left out stays as it is."""

    selector: str
    description: str | None = None


class WantedPin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The version at which a slot stays, and why."""

    model: str
    version: int
    reason: str = APPLIED


class WantedDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device; what is left out, or null, stays as it is."""

    labels: dict[str, str] | None = None
    """Exactly these."""
    federated: bool | None = None
    held: str | None = None
    """Why no rollout may take it; empty: any may."""
    pins: dict[str, WantedPin] | None = None
    """Exactly these slots."""


class WantedRollout(msgspec.Struct, frozen=True):
    """A version for all devices that the selector matches; the other fields are those of `POST /rollouts`."""

    model: str
    version: int
    waves: list[dict[str, Any]]
    selector: dict[str, str] = {}
    slot: str = "main"


class Fleet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    groups: dict[str, WantedGroup] = {}
    devices: dict[str, WantedDevice | None] = {}
    rollouts: list[dict[str, Any]] = []


ENTRIES: Mapping[str, Any] = {"groups": WantedGroup, "devices": WantedDevice | None}


@dataclass(frozen=True, slots=True)
class Present:
    """The fleet as the API shows it."""

    groups: Sequence[Json]
    devices: Sequence[Json]
    rollouts: Sequence[Json]


@dataclass(frozen=True, slots=True)
class Step:
    """One difference. `sign`: + comes, ~ changes, - goes, ! stands in the way and is for a person to decide."""

    sign: Literal["+", "~", "-", "!"]
    what: Literal["group", "device", "rollout"]
    name: str
    text: str
    verb: Verb
    body: Mapping[str, Any]
    """What the verb needs."""


def parse(text: bytes, name: str) -> Fleet:
    """The file. Raises MalformedError that names file, line and field, before the hub is asked for anything."""
    values, places = load(text, name)
    for field, entry, value in _entries(values):
        if not valid_name(entry):
            raise malformed(name, places, (field, entry), f"it cannot be a name: {NAME_RULE}")
        convert(value, ENTRIES[field], name, places, (field, entry))
    fleet = convert(values, Fleet, name, places)
    for index, body in enumerate(fleet.rollouts):
        convert(body, WantedRollout, name, places, ("rollouts", index))
        _check_plan(body, name, places, ("rollouts", index))
    return fleet


def _entries(values: Any) -> Iterator[tuple[str, str, Any]]:
    """What has a name in the file, one by one: of a whole mapping it is not told which entry is wrong."""
    for field in ENTRIES:
        entries = values.get(field) if isinstance(values, dict) else None
        if isinstance(entries, dict):
            yield from ((field, str(entry), value) for entry, value in entries.items())


def _check_plan(body: Json, name: str, places: Places, at: Path) -> None:
    """The rollout's plan, by the rule that the hub has for it."""
    from cloud.core.rollout import plan as rule  # takes half a second, and most files and commands have no rollouts

    known = rule.Plan.__dataclass_fields__
    stranger = next((field for field in body if field not in known and field not in BESIDE_PLAN), None)
    if stranger is not None:
        raise malformed(name, places, (*at, stranger), "there is no such field")
    said = {field: value for field, value in body.items() if field in known and value is not None}
    if isinstance(gates := said.get("gates"), list):
        said["gates"] = [{"expression": gate} if isinstance(gate, str) else gate for gate in gates]
    plan = convert(said, rule.Plan, name, places, at)
    try:
        rule.check(plan, time.time_ns())
    except rule.PlanError as error:
        where, _, what = str(error).partition(": ")
        steps = (int(one) if one.isdecimal() else one for one in where.split("."))
        raise malformed(name, places, (*at, *steps), what) from error


def difference(fleet: Fleet, present: Present) -> list[Step]:
    """What is to be done: groups, then devices, then rollouts, which select by both."""
    groups = {one["name"]: one for one in present.groups}
    devices = {one["name"]: one for one in present.devices}
    steps = [step for name, wanted in sorted(fleet.groups.items()) for step in _group(name, wanted, groups.get(name))]
    for name, device in sorted(fleet.devices.items()):
        steps += _device(name, device or WantedDevice(), devices.get(name))
    known = {*fleet.groups, *groups}
    return steps + [step for body in fleet.rollouts for step in _rollout(body, present.rollouts, known)]


def _group(name: str, wanted: WantedGroup, present: Json | None) -> list[Step]:
    body = _given(wanted)
    if present is None:
        return [Step("+", "group", name, _said(body), "put_group", body)]
    changed = {field: value for field, value in body.items() if present[field] != value}
    if not changed:
        return []
    return [Step("~", "group", name, _change({field: present[field] for field in changed}, changed), "put_group", body)]


def _device(name: str, wanted: WantedDevice, present: Json | None) -> list[Step]:
    if present is not None:
        return _device_steps(name, wanted, present)
    terms = {field: value for field, value in _given(wanted).items() if field in ("labels", "federated")}
    made = Step("+", "device", name, f"announce it {_said(terms)}".rstrip(), "claim", terms)
    as_claimed: Json = {"labels": wanted.labels, "federated": wanted.federated, "held_reason": "", "pins": []}
    return [made, *_device_steps(name, wanted, as_claimed)]


def _device_steps(name: str, wanted: WantedDevice, present: Json) -> list[Step]:
    steps = []
    if wanted.labels is not None and wanted.labels != present["labels"]:
        text = _change({"labels": present["labels"]}, {"labels": wanted.labels})
        body = {"put": wanted.labels, "drop": sorted(set(present["labels"]) - set(wanted.labels))}
        steps.append(Step("~", "device", name, text, "label", body))
    if wanted.federated is not None and wanted.federated != present["federated"]:
        text = _change({"federated": present["federated"]}, {"federated": wanted.federated})
        steps.append(Step("~", "device", name, text, "edit", {"federated": wanted.federated}))
    if wanted.held is not None and wanted.held != present["held_reason"]:
        verb: Verb = "hold" if wanted.held else "release"
        text = f"hold it: {wanted.held}" if wanted.held else f"release it (held: {present['held_reason']})"
        steps.append(Step("~", "device", name, text, verb, {"reason": wanted.held} if wanted.held else {}))
    return steps + (_pins(name, wanted.pins, present["pins"]) if wanted.pins is not None else [])


def _pins(name: str, wanted: Mapping[str, WantedPin], present: Sequence[Json]) -> list[Step]:
    there = {one["slot"]: (one["model"], one["version"]) for one in present}
    steps = [
        Step("-", "device", name, f"unpin {slot} from {there[slot][0]}:{there[slot][1]}", "unpin", {"slot": slot})
        for slot in sorted(set(there) - set(wanted))
    ]
    for slot, pin in sorted(wanted.items()):
        to = (pin.model, pin.version)
        if there.get(slot) != to:
            sign: Literal["~", "+"] = "~" if slot in there else "+"
            body = {"slot": slot, "version": to, "reason": pin.reason}
            steps.append(Step(sign, "device", name, f"pin {slot} to {pin.model}:{pin.version}", "pin", body))
    return steps


def _rollout(body: dict[str, Any], rollouts: Sequence[Json], groups: Collection[str]) -> list[Step]:
    wanted = msgspec.convert(body, WantedRollout)
    name = f"{wanted.model}:{wanted.version} {_said(wanted.selector)}".rstrip()
    newest = newest_rollouts(rollouts).get(place(wanted.model, wanted.slot, wanted.selector))
    if newest is None or (newest["version"] != wanted.version and newest["state"] not in GOING_ON):
        group = wanted.selector.get(GROUP)
        if group is not None and group not in groups:
            return [Step("!", "rollout", name, f"there is no group {group!r}", "give_up", {})]
        return [Step("+", "rollout", name, f"start it in {len(wanted.waves)} waves", "roll_out", body)]
    if newest["version"] == wanted.version and newest["state"] in (*GOING_ON, "succeeded"):
        return []
    why = f"rollout {newest['id']} of version {newest['version']} is {newest['state']} {newest['reason']}".rstrip()
    return [Step("!", "rollout", name, f"{why}: decide about it first", "nothing", {})]


def newest_rollouts(rollouts: Sequence[Json]) -> dict[tuple[str, ...], Json]:
    """Of each place the newest rollout; a revert is nobody's wish of its own."""
    wished = (one for one in rollouts if one["reverts"] is None)
    return {place(one["model"], one["slot"], one["selector"]): one for one in wished}


def place(model: str, slot: str, selector: Mapping[str, str]) -> tuple[str, ...]:
    """What makes two rollouts rivals."""
    return (model, slot, *(f"{name}={value}" for name, value in sorted(selector.items())))


def _given(wanted: msgspec.Struct) -> dict[str, Any]:
    return {field: value for field, value in msgspec.structs.asdict(wanted).items() if value is not None}


def _change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    return f"{_said(before)} -> {_said(after)}"


def _said(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_said(one) if isinstance(one, Mapping) else one}" for name, one in sorted(values.items()))
