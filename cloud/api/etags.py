"""Changes that hold only for what the caller has seen: `ETag` on the way out, `If-Match` on the way in (RFC 9110).

A tag stands for what people and the hub decide about a resource (its state, labels, plan), not for what devices
measure, or every heartbeat would make everybody's tag stale. So it is no cache validator: nothing is answered 304.
"""

import hashlib
import json
from typing import Annotated

from fastapi import Header

from cloud.errors import PreconditionError

IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", max_length=1000, description="carry it out only if the resource has this ETag"),
]


def etag(*decided: object) -> str:
    """The tag of a resource of which this was decided."""
    said = json.dumps(decided, sort_keys=True, separators=(",", ":"), default=str)
    return f'"{hashlib.sha256(said.encode()).hexdigest()[:24]}"'


def check(if_match: str | None, present: str) -> None:
    """Raises PreconditionError when the caller has seen something else than `present`."""
    if if_match is None or if_match.strip() == "*":
        return
    if present not in [one.strip() for one in if_match.split(",")]:
        raise PreconditionError(f"it has changed meanwhile: its ETag is {present} now; look at it again, then decide")
