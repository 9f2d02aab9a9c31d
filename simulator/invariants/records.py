"""What a device's record may never take back of an earlier one that it could be held to, whatever happened in between.

It is asked of every record that the fuzzer sees written, and of what `bench crash` finds on each disk after a cut. What
only one of the two can say stays there: which models a slot may have had in between, or that a clock never erred.
"""

from collections.abc import Iterator

from edge_agent.core.pointer import Record
from edge_agent.core.trust import Floors


def taken_back(before: Record, now: Record) -> Iterator[str]:
    """What has fallen."""
    for key, heard in before.heard.items():
        later = now.heard_of(key)
        if later.sequence < heard.sequence:
            yield f"the sequence fell from {heard.sequence} to {later.sequence}"
        if later.time_ns < heard.time_ns:
            yield "the time floor fell"
    for model, floor in before.floors.items():
        if now.floors.get(model, 0) < floor:
            yield f"the floor of {model} fell"
    if _lower(now.trust.floors, before.trust.floors):
        yield "the versions of trust metadata fell"
    if now.boot < before.boot:
        yield f"start number {before.boot} became {now.boot}"
    if now.updates_accepted < before.updates_accepted:
        yield "accepted updates were forgotten"


def _lower(now: Floors, before: Floors) -> bool:
    """A new root may set the other roles' floors anew."""
    if now.root != before.root:
        return now.root < before.root
    pairs = ((now.timestamp, before.timestamp), (now.snapshot, before.snapshot))
    return any(one.version < other.version for one, other in pairs)
