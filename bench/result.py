"""How every proof ends: its figures as a table for people, then one line of JSON, and an exit code."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures by name, and whether what they were to show was shown."""

    figures: Mapping[str, Any]
    passed: bool


def finish(outcome: Outcome, *, as_json: bool) -> int:
    """Print the figures, the JSON object last; returns the exit code: 0 when passed, else 1."""
    if not as_json:
        for name, value in outcome.figures.items():
            print(f"{name:<28} {value}")
    print(json.dumps({**outcome.figures, "passed": outcome.passed}), flush=True)
    return 0 if outcome.passed else 1
