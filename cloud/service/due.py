"""What the leader has to do, asked in one statement: all that a fleet at rest costs beside its own messages.

Each service says what there would have to be for it to do anything; whoever has nothing to do is not woken. What this
hub does itself rings the bells of those concerned at once; this is for what another hub does, for what was lost between
a commit and its effects, and for devices that come back late.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from cloud.service import director, jobs, needs, promotion
from cloud.service.effects import Wake
from cloud.service.rollouts.plans import UNDER_WAY
from cloud.tables import rollouts

_LOOK = select(
    director.UNSETTLED.label("desired"),
    promotion.RULED.label("promotion"),
    jobs.WAITING.label(Wake.JOBS),
    needs.NEEDED_OR_HELD.label(Wake.BLOBS),
    select(rollouts.c.id).where(UNDER_WAY).exists().label(Wake.ROLLOUTS),
)


@dataclass(frozen=True, slots=True)
class Due:
    """Who has something to do."""

    desired: bool
    """A device has not accepted what it shall run, or is ahead of it."""
    promotion: bool
    """A rule may promote a version."""
    wakes: frozenset[Wake]


def look(conn: Connection) -> Due:
    """Ask."""
    row = conn.execute(_LOOK).one()
    wakes = (service for service in (Wake.JOBS, Wake.BLOBS, Wake.ROLLOUTS) if row._mapping[service])
    return Due(bool(row.desired), bool(row.promotion), frozenset(wakes))
