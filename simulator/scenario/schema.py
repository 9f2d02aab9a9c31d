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
    return json.dumps({"$schema": DIALECT, "title": "Fleetloop scenario", **made}, indent=2, sort_keys=True) + "\n"


def _close(part: dict[str, Any]) -> None:
    """What is not known is a mistake, also in plans, which are dataclasses."""
    if "properties" in part:
        part.setdefault("additionalProperties", False)
