"""A fleet as it should be, in YAML, against the fleet as it is: what `plan` shows and `apply` does.

Devices that the file does not name are left alone, and so is every rollout that has been decided: a halted one waits
for a person. Applying the same file again changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from fleetloop.client import Json
from wire.errors import MalformedError

GOING_ON = ("running", "waiting_for_approval", "paused")


class WantedDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device; what is left out stays as it is."""

    labels: dict[str, str] | None = None
    federated: bool | None = None


class WantedRollout(msgspec.Struct, frozen=True):
    """A version for all devices that the selector matches; the other fields are those of `POST /rollouts`."""

    model: str
    version: int
    waves: list[dict[str, Any]]
    selector: dict[str, str] = {}
    slot: str = "main"


class Fleet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    devices: dict[str, WantedDevice] = {}
    rollouts: list[dict[str, Any]] = []


@dataclass(frozen=True, slots=True)
class Step:
    """One difference. `sign`: + comes, ~ changes, ! stands in the way and is for a person to decide."""

    sign: Literal["+", "~", "!"]
    what: Literal["device", "rollout"]
    name: str
    text: str
    body: Mapping[str, Any]
    """What to ask of the API."""


def parse(text: bytes, name: str) -> Fleet:
    """The file. Raises MalformedError with the place of the mistake."""
    try:
        fleet = msgspec.yaml.decode(text, type=Fleet)
        for wanted in fleet.rollouts:
            msgspec.convert(wanted, WantedRollout)
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedError(f"{name}: {error}") from error
    return fleet


def difference(fleet: Fleet, devices: Sequence[Json], rollouts: Sequence[Json]) -> list[Step]:
    """What is to be done, devices first: rollouts select by their labels."""
    known = {one["name"]: one for one in devices}
    found = [_device(name, wanted, known.get(name)) for name, wanted in sorted(fleet.devices.items())]
    found += [_rollout(body, rollouts) for body in fleet.rollouts]
    return [step for step in found if step is not None]


def _device(name: str, wanted: WantedDevice, present: Json | None) -> Step | None:
    asked = {field: value for field, value in msgspec.structs.asdict(wanted).items() if value is not None}
    if present is None:
        return Step("+", "device", name, f"announce it {_said(asked)}".rstrip(), asked)
    changed = {field: value for field, value in asked.items() if present[field] != value}
    if not changed:
        return None
    before = {field: present[field] for field in changed}
    return Step("~", "device", name, f"{_said(before)} -> {_said(changed)}", changed)


def _rollout(body: dict[str, Any], rollouts: Sequence[Json]) -> Step | None:
    wanted = msgspec.convert(body, WantedRollout)
    name = f"{wanted.model}:{wanted.version} {_said(wanted.selector)}".rstrip()
    place = (wanted.model, wanted.slot, wanted.selector)
    ordered = (one for one in rollouts if one["reverts"] is None)  # a revert is nobody's wish of its own
    same = [one for one in ordered if (one["model"], one["slot"], one["selector"]) == place]
    newest = same[-1] if same else None
    if newest is None or (newest["version"] != wanted.version and newest["state"] not in GOING_ON):
        return Step("+", "rollout", name, f"start it in {len(wanted.waves)} waves", body)
    if newest["version"] == wanted.version and newest["state"] in (*GOING_ON, "succeeded"):
        return None
    why = f"rollout {newest['id']} of version {newest['version']} is {newest['state']} {newest['reason']}".rstrip()
    return Step("!", "rollout", name, f"{why}: decide about it first", {})


def _said(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_said(one) if isinstance(one, Mapping) else one}" for name, one in sorted(values.items()))
