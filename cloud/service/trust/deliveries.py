"""What comes signed from outside: roots from the holders of the offline keys, targets and bins from the publisher.

Each is judged by the root that stands, and taken in a transaction that also signs what follows from it, or not at all.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, update

from cloud.core.trust import ROOT, TARGETS, Change, why_not_next, why_not_these
from cloud.errors import ConflictError, InvalidError
from cloud.ports import Notary
from cloud.service import audit
from cloud.service.trust.freshness import complete, refresh, snapshot
from cloud.service.trust.rows import current_root, holds, newest, store
from cloud.tables import models
from wire.errors import WireError
from wire.trust import RootKeys, Standing, Target, bin_of, bin_roles

Added = tuple[str, Target]
"""Path and target of a release."""


def adopt_root(conn: Connection, notary: Notary, root: bytes, actor: str, now_ns: int) -> None:
    """Take a first or a next root; repeating it is harmless. Raises InvalidError.

    The first one is believed because an administrator brings it; every later one must be signed as TUF demands.
    """
    before = newest(conn, ROOT)
    if before is not None and before.content == root:
        return
    try:
        standing = notary.check_root(root, None if before is None else bytes(before.content))
        keys = notary.keys_of(root)
    except WireError as error:
        raise InvalidError(f"root refused: {error}") from error
    _demand_key("online", keys.online, notary.online_keys)
    _demand_key("director", keys.director, notary.director_keys)
    _demand_life(ROOT, standing, now_ns)
    store(conn, ROOT, standing, root, now_ns)
    audit.record(conn, now_ns, actor, ("trust.root", f"root version {standing.version}"), keys=_shown(keys))
    refresh(conn, notary, now_ns)


def deliver(
    conn: Connection, notary: Notary, files: Mapping[str, bytes], actor: str, now_ns: int, *, restored: bool = False
) -> None:
    """Take targets and bins signed anew; what they list stays. Raises InvalidError, ConflictError.

    A hub that was `restored` from a backup also takes what was signed since, and never gives those numbers away again.
    """
    known = (TARGETS, *bin_roles())
    strangers = sorted(files.keys() - set(known))
    if strangers:
        raise InvalidError(f"a publisher signs targets and bins, not {strangers[0]!r}")
    for role in known:
        if role in files:
            _take(conn, notary, role, files[role], Change(restored=restored), now_ns)
            if restored:
                _note_numbers(conn, notary.read_bin(files[role], role).targets)
    named = ", ".join(role for role in known if role in files)
    audit.record(conn, now_ns, actor, ("trust.signed", named), restored=restored)
    refresh(conn, notary, now_ns)


def release(conn: Connection, notary: Notary, files: Mapping[str, bytes], added: Added, now_ns: int) -> None:
    """Take the bin that lists one release more; repeating it is harmless. Raises InvalidError, ConflictError."""
    role = bin_of(added[0])
    if set(files) != {role}:
        raise InvalidError(f"metadata refused: {added[0]} belongs into {role}, and that alone is wanted")
    _take(conn, notary, role, files[role], Change(added), now_ns)
    if notary.read_bin(files[role], role).targets.get(added[0]) != added[1]:
        raise InvalidError(f"metadata refused: target {added[0]} is not the release of the signing request")
    if complete(conn, notary, current_root(conn)) is None:
        raise ConflictError("the publisher has to sign its targets and all bins under the present root first")
    refresh(conn, notary, now_ns)


def _take(conn: Connection, notary: Notary, role: str, data: bytes, change: Change, now_ns: int) -> None:
    row = newest(conn, role)
    if row is not None and row.content == data:
        return
    root = current_root(conn)
    try:
        standing, held = _judge(conn, notary, role, data, change)
    except WireError as error:
        raise InvalidError(f"metadata refused: {error}") from error
    listed = (snapshot(conn, notary, root) or (None, {}))[1]
    floor = listed[role].version if role in listed else 0
    _demand(role, why_not_next(standing.version, held, floor, change))
    _demand_life(role, standing, now_ns)
    store(conn, role, standing, data, now_ns)


def _judge(conn: Connection, notary: Notary, role: str, data: bytes, change: Change) -> tuple[Standing, int | None]:
    """Its standing, and the version of the one before if that still holds; then its targets must be the same."""
    row = newest(conn, role)
    if role == TARGETS:
        root = current_root(conn)
        held = row is not None and holds(notary.check_targets, row.content, root)
        return notary.check_targets(data, root), row.version if row is not None and held else None
    targets = newest(conn, TARGETS)
    if targets is None:
        raise ConflictError("the publisher has to sign targets before any bin")
    after = notary.check_bin(data, role, targets.content)
    if row is None or not holds(notary.check_bin, row.content, role, targets.content):
        return after.standing, None
    _demand(role, why_not_these(notary.read_bin(row.content, role).targets, after.targets, change))
    return after.standing, row.version


def _note_numbers(conn: Connection, targets: Mapping[str, Target]) -> None:
    """Version numbers and counters that were signed are taken, whatever the database remembers of them."""
    for path, target in targets.items():
        name, _, number = path.removesuffix(".json").rpartition("/")
        here = update(models).where(models.c.name == name)
        if number.isdecimal():
            conn.execute(here.where(models.c.last_version < int(number)).values(last_version=int(number)))
        conn.execute(here.where(models.c.last_counter < target.counter).values(last_counter=target.counter))


def _demand(role: str, reason: str) -> None:
    if reason:
        raise InvalidError(f"metadata refused: {role}: {reason}")


def _demand_key(kind: str, named: tuple[str, ...], held: tuple[str, ...]) -> None:
    if not set(named) & set(held):
        theirs, ours = (", ".join(key[:16] for key in keys) for keys in (named, held))
        raise InvalidError(
            f"root refused: its {kind} keys are {theirs}, but this hub holds {ours}: "
            "put the file of the new key into the hub's key directory first (docs/security.md)"
        )


def _demand_life(role: str, standing: Standing, now_ns: int) -> None:
    if standing.expires_ns <= now_ns:
        raise InvalidError(f"{role} version {standing.version} has expired already")


def _shown(keys: RootKeys) -> dict[str, list[str]]:
    return {name: list(getattr(keys, name)) for name in ("root", "targets", "online", "director")}
