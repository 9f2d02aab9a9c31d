"""Snapshot and timestamp, which the hub signs itself: after every change, and before half of their life is over."""

from collections.abc import Mapping

from sqlalchemy import Connection

from cloud.core.trust import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, next_version
from cloud.errors import ConflictError
from cloud.ports import Notary
from cloud.service.trust.rows import holds, newest, newest_of, store
from wire.errors import SignatureError, WireError
from wire.ports import SECOND
from wire.trust import (
    SNAPSHOT_LIFE_S,
    TIMESTAMP_LIFE_S,
    Listed,
    RootKeys,
    Standing,
    bin_roles,
    half_life_ns,
    half_over,
)


def refresh(conn: Connection, notary: Notary, now_ns: int) -> None:
    """Sign again where something is new, the root has changed the keys, or half a life is over.

    While the publisher has not signed targets and all bins under the present root, the snapshot lists what it did.
    Raises ConflictError if the hub has lost its online key.
    """
    row = newest(conn, ROOT)
    if row is None:
        return
    try:
        _refresh(conn, notary, bytes(row.content), now_ns)
    except SignatureError as error:
        raise ConflictError(f"{error}: put the key's file back, or rotate it (docs/security.md)") from error


def due_ns(conn: Connection) -> int:
    """When there is something to sign again if nothing else happens. 0: it cannot be told, look again soon."""
    lives = {SNAPSHOT: SNAPSHOT_LIFE_S, TIMESTAMP: TIMESTAMP_LIFE_S}
    rows = newest_of(conn, tuple(lives))
    if len(rows) < len(lives):
        return 0
    return min(half_life_ns(row.expires_ns, lives[role]) for role, row in rows.items())


def snapshot(conn: Connection, notary: Notary, root: bytes) -> tuple[Standing, Mapping[str, Listed]] | None:
    """The newest snapshot and what it lists, if it holds under this root."""
    row = newest(conn, SNAPSHOT)
    try:
        return None if row is None else notary.check_snapshot(row.content, root)
    except WireError:
        return None


def complete(conn: Connection, notary: Notary, root: bytes) -> Mapping[str, Listed] | None:
    """The newest targets and bins, if all of them are there and hold under this root: devices can verify releases."""
    rows = newest_of(conn, (TARGETS, *bin_roles()))
    if len(rows) < 1 + len(bin_roles()) or not holds(notary.check_targets, rows[TARGETS].content, root):
        return None
    targets = rows[TARGETS].content
    if not all(holds(notary.check_bin, rows[name].content, name, targets) for name in bin_roles()):
        return None
    return {role: Listed(row.version, len(row.content)) for role, row in rows.items()}


def _refresh(conn: Connection, notary: Notary, root: bytes, now_ns: int) -> None:
    held = snapshot(conn, notary, root)
    wanted = complete(conn, notary, root) or (held[1] if held is not None else None)
    if wanted is None:
        return
    new = held is None or held[1] != wanted or half_over(held[0].expires_ns, SNAPSHOT_LIFE_S, now_ns)
    keys = notary.keys_of(root)
    if new:
        standing = _next(conn, SNAPSHOT, SNAPSHOT_LIFE_S, now_ns)
        store(conn, SNAPSHOT, standing, notary.make_snapshot(keys, standing, wanted), now_ns)
    if new or _stale(conn, notary, root, now_ns):
        _stamp(conn, notary, keys, now_ns)


def _stale(conn: Connection, notary: Notary, root: bytes, now_ns: int) -> bool:
    row = newest(conn, TIMESTAMP)
    if row is None or half_over(row.expires_ns, TIMESTAMP_LIFE_S, now_ns):
        return True
    return not holds(notary.check_timestamp, row.content, root)


def _stamp(conn: Connection, notary: Notary, keys: RootKeys, now_ns: int) -> None:
    present = newest(conn, SNAPSHOT)
    assert present is not None
    standing = _next(conn, TIMESTAMP, TIMESTAMP_LIFE_S, now_ns)
    store(conn, TIMESTAMP, standing, notary.make_timestamp(keys, standing, present.content), now_ns)


def _next(conn: Connection, role: str, life_s: int, now_ns: int) -> Standing:
    row = newest(conn, role)
    last = row.version if row is not None else 0
    return Standing(next_version(last, now_ns), now_ns + life_s * SECOND)
