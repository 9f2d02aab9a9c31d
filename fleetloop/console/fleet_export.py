"""The fleet as it is, as a file that `plan` finds nothing to do for.

Rollouts that were halted, aborted or overtaken are not in it: they are nobody's wish. Nor are decisions that are made
for a moment: the halt of the fleet, promotions, and the variant that a rollout was told to ship.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from fleetloop.client import Json
from fleetloop.console.fleet_file import GOING_ON, Present, newest_rollouts

PLACE = ("model", "version", "slot", "selector")


def document(present: Present) -> bytes:
    """YAML."""
    fleet = {
        "groups": {one["name"]: _named(one, "selector", "description") for one in present.groups},
        "devices": {one["name"]: _device(one) for one in present.devices},
        "rollouts": [
            _rollout(one)
            for one in newest_rollouts(present.rollouts).values()
            if one["state"] in (*GOING_ON, "succeeded")
        ],
    }
    return msgspec.yaml.encode(fleet)


def _device(one: Json) -> Json:
    pins = {pin["slot"]: _named(pin, "model", "version", "reason") for pin in one["pins"]}
    return {"labels": one["labels"], "federated": one["federated"], "held": one["held_reason"], "pins": pins}


def _rollout(one: Json) -> Json:
    plan: Json = _without_nothing(one["plan"])
    if not plan.get("retry", {}).get("outcomes"):
        plan.pop("retry", None)  # nothing is repeated
    return _named(one, *PLACE) | plan


def _named(one: Mapping[str, Any], *fields: str) -> Json:
    return {field: one[field] for field in fields}


def _without_nothing(value: Any) -> Any:
    """Fields that are null are fields that are left out."""
    if isinstance(value, Mapping):
        return {name: _without_nothing(one) for name, one in value.items() if one is not None}
    return [_without_nothing(one) for one in value] if isinstance(value, list) else value
