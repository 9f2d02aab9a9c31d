"""Models and versions: what a job built gets the next number and counter, and waits for the publisher.

The publisher releases it by listing it among its targets, its refusal ends it. The hub can build releases; it cannot
vouch for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from cloud.core.registry import DECISIONS, SigningDecision, VersionState
from cloud.errors import ConflictError, UnknownError
from cloud.ports import Notary
from cloud.service import audit
from cloud.service.effects import NOTHING, Effects
from cloud.service.trust import deliveries
from cloud.tables import models, objects, signing_requests, version_objects, versions
from cloud.upsert import upsert
from wire.codec import MAX_RELEASE_BYTES, decode, encode
from wire.release import ModelCard, ObjectRef, Release, object_ref
from wire.trust import Target, target_path


@dataclass(frozen=True, slots=True)
class Numbers:
    """Version number and release counter that the next version of a model gets."""

    version: int
    counter: int


@dataclass(frozen=True, slots=True)
class Built:
    """A version ready to be entered: its documents, and how the publisher can judge it."""

    release: Release
    card: ModelCard
    chosen: str
    gate_report: Mapping[str, Any]
    request: str
    """Id of its signing request."""


def add_model(conn: Connection, name: str, workload: str, now_ns: int) -> None:
    """Make the model known. Raises ConflictError when it has versions of another workload.

    Until its first version the workload can be changed: it may have been misspelt.
    """
    statement = upsert(models).values(name=name, workload=workload, created_ns=now_ns)
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=["name"], set_={"workload": workload}, where=models.c.last_version == 0
        )
    )
    known = conn.execute(select(models.c.workload).where(models.c.name == name)).scalar_one()
    if known != workload:
        raise ConflictError(f"model {name!r} belongs to workload {known!r}, not {workload!r}")


def next_numbers(conn: Connection, model: str) -> Numbers:
    """What the next version will be called, of a new model the first; `enter` checks that it still holds."""
    row = conn.execute(select(models).where(models.c.name == model)).one_or_none()
    return Numbers(1, 1) if row is None else Numbers(row.last_version + 1, row.last_counter + 1)


def version_of_job(conn: Connection, job: str) -> int | None:
    """The version that a job made, if it was entered already."""
    return conn.execute(select(versions.c.version).where(versions.c.job == job)).scalar_one_or_none()


def exists(conn: Connection, model: str, version: int) -> bool:
    """Is there such a version, in whatever state?"""
    here = (versions.c.model == model) & (versions.c.version == version)
    return conn.execute(select(versions.c.version).where(here)).first() is not None


def enter(conn: Connection, built: Built, now_ns: int) -> bool:
    """Enter a version whose objects are all stored, with its signing request. False: another one took its number."""
    release, lineage = built.release, built.card.lineage
    if next_numbers(conn, release.model) != Numbers(release.version, release.counter):
        return False
    payload = encode(release)
    taken = {"last_version": release.version, "last_counter": release.counter}
    conn.execute(update(models).where(models.c.name == release.model).values(taken))
    conn.execute(
        insert(versions).values(
            model=release.model,
            version=release.version,
            counter=release.counter,
            state=VersionState.AWAITING_SIGNATURE,
            release=payload,
            card=encode(built.card),
            chosen=built.chosen,
            job=lineage.job,
            parent_version=lineage.parent_version,
            federated_run=lineage.federated_run,
            created_ns=now_ns,
        )
    )
    for ref in {ref.sha256: ref for ref in references(release)}.values():
        _enter_object(conn, release.model, release.version, ref, now_ns)
    conn.execute(
        insert(signing_requests).values(
            id=built.request,
            model=release.model,
            version=release.version,
            payload=payload,
            gate_report=dict(built.gate_report),
            state="pending",
            created_ns=now_ns,
        )
    )
    subject = f"{release.model}/{release.version}"
    audit.record(conn, now_ns, audit.HUB, ("version.built", subject), job=lineage.job, chosen=built.chosen)
    return True


def references(release: Release) -> tuple[ObjectRef, ...]:
    """Every object that a version consists of, the release document excepted."""
    companions = release.companions
    optional = (companions.train_step, companions.eval)
    return (
        release.parent,
        *(variant.file for variant in release.variants),
        companions.golden,
        companions.parameters,
        *(ref for ref in optional if ref is not None),
        release.card,
    )


def request_row(conn: Connection, request: str) -> Row[Any]:
    """The signing request. Raises UnknownError."""
    row = conn.execute(select(signing_requests).where(signing_requests.c.id == request)).one_or_none()
    if row is None:
        raise UnknownError(f"there is no signing request {request!r}")
    return row


def accept(
    conn: Connection, notary: Notary, request: str, files: Mapping[str, bytes], actor: str, now_ns: int
) -> Effects:
    """The publisher lists the release, which is stored as an object: the version is released. Repeating is harmless.

    Raises InvalidError, and ConflictError after a refusal.
    """
    row = request_row(conn, request)
    state = _decide(conn, row, SigningDecision.SIGNED)
    if row.state == "signed":
        return NOTHING
    ref = object_ref(row.payload)
    counter = decode(row.payload, Release, limit=MAX_RELEASE_BYTES).counter
    target = Target(ref.bytes, ref.sha256, counter)
    deliveries.release(conn, notary, files, (target_path(row.model, row.version), target), now_ns)
    _enter_object(conn, row.model, row.version, ref, now_ns)
    _update_version(conn, row, {"state": state, "release_ref": msgspec.to_builtins(ref), "released_ns": now_ns})
    decided = update(signing_requests).where(signing_requests.c.id == request)
    conn.execute(decided.values(state="signed", decided_ns=now_ns))
    audit.record(conn, now_ns, actor, ("version.release", f"{row.model}/{row.version}"), release=ref.sha256)
    return NOTHING


def refuse(conn: Connection, request: str, reason: str, actor: str, now_ns: int) -> Effects:
    """The publisher will not sign. Raises ConflictError after a signature."""
    row = request_row(conn, request)
    state = _decide(conn, row, SigningDecision.REFUSED)
    if row.state == "refused":
        return NOTHING
    _update_version(conn, row, {"state": state, "reason": reason})
    decided = update(signing_requests).where(signing_requests.c.id == request)
    conn.execute(decided.values(state="refused", reason=reason, decided_ns=now_ns))
    audit.record(conn, now_ns, actor, ("version.refuse", f"{row.model}/{row.version}"), reason=reason)
    return NOTHING


def _decide(conn: Connection, row: Row[Any], decision: SigningDecision) -> VersionState:
    here = (versions.c.model == row.model) & (versions.c.version == row.version)
    state = VersionState(conn.execute(select(versions.c.state).where(here)).scalar_one())
    target = DECISIONS.get((state, decision))
    if target is None:
        raise ConflictError(f"{row.model} version {row.version} is {state} already: it cannot be {decision}")
    return target


def _update_version(conn: Connection, row: Row[Any], values: Mapping[str, Any]) -> None:
    here = (versions.c.model == row.model) & (versions.c.version == row.version)
    conn.execute(update(versions).where(here).values(dict(values)))


def _enter_object(conn: Connection, model: str, version: int, ref: ObjectRef, now_ns: int) -> None:
    entry = upsert(objects).values(sha256=ref.sha256, bytes=ref.bytes, created_ns=now_ns)
    conn.execute(entry.on_conflict_do_nothing())
    link = upsert(version_objects).values(model=model, version=version, sha256=ref.sha256)
    conn.execute(link.on_conflict_do_nothing())
