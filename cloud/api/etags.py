"""Changes that hold only for what the caller has seen: `ETag` on the way out, `If-Match` on the way in (RFC 9110).

A tag stands for what people and the hub decide about a resource (its state, labels, plan), not for what devices
measure, or every heartbeat would make everybody's tag stale. So it is no cache validator: nothing is answered 304.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header
from sqlalchemy import Connection

from cloud.errors import PreconditionError

IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", max_length=1000, description="carry it out only if the resource has this ETag"),
]


def etag(*decided: object) -> str:
    """The tag of a resource of which this was decided."""
    said = json.dumps(decided, sort_keys=True, separators=(",", ":"), default=str)
    return f'"{hashlib.sha256(said.encode()).hexdigest()[:24]}"'


@dataclass(frozen=True, slots=True)
class Seen:
    """What the caller has seen of a resource, and how its tag is read now; no tag: there is no such resource."""

    if_match: str | None
    tag: Callable[[Connection], str | None]

    def check(self, conn: Connection) -> None:
        """Raises PreconditionError when it is not that any more; and whatever keeps the caller from seeing it."""
        present = self.tag(conn)
        if self.if_match is None:
            return
        if present is None:
            raise PreconditionError("it does not exist (any more): look at it again, then decide")
        wanted = [one.strip() for one in self.if_match.split(",")]
        if present not in wanted and "*" not in wanted:
            raise PreconditionError(f"it has changed meanwhile: its ETag is {present} now; look at it again")
