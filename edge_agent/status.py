"""`fleetloop agent status` for people: a line for each thing that matters."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from wire.ports import SECOND


def lines(status: dict[str, Any]) -> Iterator[str]:
    """The answer of `GET /v1/status` in words."""
    reported = status["reported"]
    yield f"device      {status['device']}, {'connected' if status['connected'] else 'NOT CONNECTED'}"
    for slot in reported["slots"]:
        serving = status["serving"].get(slot["slot"], "no model")
        reason = f": {slot['reason']}" if slot["reason"] else ""
        yield f"slot        {slot['slot']} answers with {serving}; {slot['phase']}{reason}"
    if not reported["slots"]:
        yield "slot        nothing assigned yet"
    ends_ns = reported["certificate_expires_ns"]
    date = f"{datetime.fromtimestamp(ends_ns / SECOND, UTC):%Y-%m-%d %H:%M} UTC"
    yield f"login       {f'certificate until {date}' if ends_ns else 'password'}"
    yield f"counted     {status['predictions']} predictions, {status['captured']} windows held"
    if reported["refused"]:
        yield f"REFUSED     {reported['refused']}"
    if status["problem"]:
        yield f"PROBLEM     {status['problem']}"
