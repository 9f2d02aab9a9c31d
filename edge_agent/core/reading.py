"""Which documents of the cloud a device accepts, and the variant on which director and publisher agree."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from edge_agent.core.trust import Heard, Listed
from edge_agent.errors import RefusedError, UnknownDirectorError
from wire.asks import SignedTime
from wire.assignment import Assignment, SlotAssignment, assignment_digest
from wire.codec import MAX_ASSIGNMENT_BYTES, MAX_CONTROL_BYTES, MAX_RELEASE_BYTES, SPEAKS, decode
from wire.compatibility import unreadable
from wire.dsse import ASSIGNMENT_TYPE, TIME_TYPE, Unsealed, Verify, unseal_by
from wire.errors import UnknownSignerError, WireError
from wire.release import Release, Variant

T = TypeVar("T")


class Order(NamedTuple):
    """An assignment, the id of the director key that signed it, and its digest."""

    assignment: Assignment
    key: str
    digest: str


class Newest(NamedTuple):
    """Which assignment was accepted last. `digest`: empty where it is not known."""

    key: str
    digest: str


def read_assignment(
    envelope: bytes, director: Mapping[str, Verify], device: str, heard: Callable[[str], Heard], newest: Newest
) -> Order:
    """The assignment in `envelope`.

    `heard` says what a key signed before. The very newest one may come again, and no other under its number: that is of
    a hub restored from a backup, or of a thief. One of another key must be newer than everything of that key: where
    two keys are good, what the former one signed cannot undo what the present one says.

    Raises:
        UnknownDirectorError: signed by no key in `director`.
        RefusedError: malformed, oversize, forged, for another device, or not newer than what was accepted.
    """
    assignment, unsealed = _signed(envelope, Assignment, ASSIGNMENT_TYPE, MAX_ASSIGNMENT_BYTES, director)
    problem = unreadable(assignment.schema, SPEAKS, "this agent")
    if problem:
        raise RefusedError(f"assignment: {problem}")
    if assignment.device != device:
        raise RefusedError(f"assignment: meant for device {assignment.device!r}, this is {device!r}")
    order = Order(assignment, unsealed.keyid, assignment_digest(unsealed.payload))
    _check_number(order, heard(order.key).sequence, newest)
    names = [slot.slot for slot in assignment.slots]
    if len(set(names)) != len(names):
        raise RefusedError("assignment: names a slot twice")
    return order


def _check_number(order: Order, floor: int, newest: Newest) -> None:
    """Is it newer than what its key signed, or the newest again? Raises RefusedError."""
    number = order.assignment.sequence
    if number < floor or (number == floor and order.key != newest.key):
        raise RefusedError(f"assignment: sequence {number} is older than {floor}, accepted before")
    if number == floor and newest.digest not in ("", order.digest):
        raise RefusedError(f"assignment: another one with the same sequence {number} was accepted before")


def read_time(envelope: bytes, director: Mapping[str, Verify], device: str, nonce: str) -> tuple[int, str]:
    """The director's time (ns) in answer to `nonce`, and the id of the key that signed it.

    Raises:
        UnknownDirectorError: signed by no key in `director`.
        RefusedError: malformed, forged, or an answer to another question.
    """
    told, unsealed = _signed(envelope, SignedTime, TIME_TYPE, MAX_CONTROL_BYTES, director)
    if (told.device, told.nonce) != (device, nonce):
        raise RefusedError("time: the answer is to another question")
    return told.now_ns, unsealed.keyid


@functools.lru_cache(maxsize=2)
def read_release(document: bytes) -> Release:
    """The release in `document`, whose digest was checked. Raises RefusedError: malformed or oversize.

    An installation reads the same one several times.
    """
    try:
        release = decode(document, Release, limit=MAX_RELEASE_BYTES)
    except WireError as error:
        raise RefusedError(f"release: {error}") from error
    problem = unreadable(release.schema, SPEAKS, "this agent")
    if problem:
        raise RefusedError(f"release: {problem}")
    return release


def agree(listed: Listed, desired: SlotAssignment, floor: int) -> None:
    """See that director and publisher mean the same release, and that it is not below the floor.

    Raises:
        RefusedError: they mean other files, or the counter that the publisher signed is too low.
    """
    if desired.release.bytes > MAX_RELEASE_BYTES:
        raise RefusedError(f"release: {desired.release.bytes} bytes, at most {MAX_RELEASE_BYTES} allowed")
    if not listed.vouches_for(desired.release):
        raise RefusedError(f"release: {listed.path} is another file for the publisher than for the director")
    lowest = max(floor, desired.min_counter)
    if listed.counter < lowest:
        raise RefusedError(f"release: counter {listed.counter} is below the floor {lowest}")


def agreed_variant(release: Release, desired: SlotAssignment, counter: int) -> Variant:
    """The variant on which director and publisher agree; `counter` is the publisher's word.

    Raises:
        RefusedError: the release is another model's or version's, has another counter, or lacks that very file.
    """
    if (release.model, release.version) != (desired.model, desired.version):
        named = f"{release.model} {release.version}"
        raise RefusedError(f"release: is {named}, the assignment names {desired.model} {desired.version}")
    if release.counter != counter:
        raise RefusedError(f"release: has counter {release.counter}, the publisher's metadata says {counter}")
    variant = release.variant(desired.variant)
    if variant is None:
        raise RefusedError(f"release: has no variant {desired.variant!r}")
    if variant.file.sha256 != desired.sha256:
        raise RefusedError(f"release: variant {desired.variant!r} is another file than the one assigned")
    return variant


def _signed(
    envelope: bytes, kind: type[T], payload_type: str, limit: int, director: Mapping[str, Verify]
) -> tuple[T, Unsealed]:
    name = kind.__name__.lower()
    try:
        unsealed = unseal_by(envelope, payload_type, director, limit=2 * limit)
        return decode(unsealed.payload, kind, limit=limit), unsealed
    except UnknownSignerError as error:
        raise UnknownDirectorError(f"{name}: {error}") from error
    except WireError as error:
        raise RefusedError(f"{name}: {error}") from error
