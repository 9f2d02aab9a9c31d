"""Which desired documents a device accepts: signed by its director, addressed to it, never older than the newest."""

from collections.abc import Mapping

from edge_agent.errors import RefusedError
from wire.assignment import Assignment, SlotAssignment
from wire.codec import MAX_ASSIGNMENT_BYTES, MAX_RELEASE_BYTES, SCHEMA, decode
from wire.dsse import ASSIGNMENT_TYPE, RELEASE_TYPE, Verify, unseal
from wire.errors import WireError
from wire.release import Release, Variant


def read_assignment(envelope: bytes, director: Mapping[str, Verify], device: str, floor: int) -> Assignment:
    """The assignment in `envelope`. One with sequence `floor` is the newest again, which the caller may skip.

    Raises:
        RefusedError: malformed, oversize, not signed by the director, for another device, or older than `floor`.
    """
    try:
        payload = unseal(envelope, ASSIGNMENT_TYPE, director, limit=2 * MAX_ASSIGNMENT_BYTES)
        assignment = decode(payload, Assignment, limit=MAX_ASSIGNMENT_BYTES)
    except WireError as error:
        raise RefusedError(f"assignment: {error}") from error
    if assignment.schema != SCHEMA:
        raise RefusedError(f"assignment: schema {assignment.schema}, this agent speaks {SCHEMA}")
    if assignment.device != device:
        raise RefusedError(f"assignment: meant for device {assignment.device!r}, this is {device!r}")
    if assignment.sequence < floor:
        raise RefusedError(f"assignment: sequence {assignment.sequence} is older than {floor}, accepted before")
    names = [slot.slot for slot in assignment.slots]
    if len(set(names)) != len(names):
        raise RefusedError("assignment: names a slot twice")
    return assignment


def read_release(envelope: bytes, publisher: Mapping[str, Verify]) -> Release:
    """The release in `envelope`.

    Raises:
        RefusedError: malformed, oversize, or not signed by the publisher.
    """
    try:
        payload = unseal(envelope, RELEASE_TYPE, publisher, limit=2 * MAX_RELEASE_BYTES)
        release = decode(payload, Release, limit=MAX_RELEASE_BYTES)
    except WireError as error:
        raise RefusedError(f"release: {error}") from error
    if release.schema != SCHEMA:
        raise RefusedError(f"release: schema {release.schema}, this agent speaks {SCHEMA}")
    return release


def agreed_variant(release: Release, desired: SlotAssignment, floor: int) -> Variant:
    """The variant on which director and publisher agree.

    Raises:
        RefusedError: the release is another model's or version's, below the floor, or lacks that very file.
    """
    if (release.model, release.version) != (desired.model, desired.version):
        named = f"{release.model} {release.version}"
        raise RefusedError(f"release: is {named}, the assignment names {desired.model} {desired.version}")
    lowest = max(floor, desired.min_counter)
    if release.counter < lowest:
        raise RefusedError(f"release: counter {release.counter} is below the floor {lowest}")
    variant = release.variant(desired.variant)
    if variant is None:
        raise RefusedError(f"release: has no variant {desired.variant!r}")
    if variant.file.sha256 != desired.sha256:
        raise RefusedError(f"release: variant {desired.variant!r} is another file than the one assigned")
    return variant
