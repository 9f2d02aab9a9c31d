"""The published JSON schema of scenario files, generated from their shape: editors complete and check by it."""

import json
from typing import Any

import msgspec

from simulator.scenario.document import Scenario

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> str:
    """The schema as JSON, with a line end."""
    made = msgspec.json.schema(Scenario)
    for part in made["$defs"].values():
        _close(part)
    document = {"$schema": DIALECT, "title": "Fleetloop scenario", **_whole(made)}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _close(part: dict[str, Any]) -> None:
    """What is not known is a mistake, also in plans, which are dataclasses."""
    if "properties" in part:
        part.setdefault("additionalProperties", False)


def _whole(value: Any) -> Any:
    """1.0 is 1: of two equal annotations Python keeps the first, so which was written depends on what was imported."""
    match value:
        case dict():
            return {name: _whole(one) for name, one in value.items()}
        case list():
            return [_whole(one) for one in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value
