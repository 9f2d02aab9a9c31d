"""API keys: made, found by their digest, listed and revoked. What is kept of a key cannot be used as one.

Some administrator's key that neither expires nor is bounded always stays, so that nobody locks himself out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from cloud.core.identity import KeyState, Role, digest, key_state
from cloud.core.reach import EVERYTHING, Reach
from cloud.errors import ConflictError, InvalidError, UnknownError
from cloud.ports import Store
from cloud.service import audit
from cloud.tables import api_keys


class KeysInUse:
    """When keys were last used, remembered until it is written for all of them: no request waits for that."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def note(self, sha256: str, now_ns: int) -> None:
        """The key with this digest was used."""
        self._used[sha256] = now_ns

    async def save(self, store: Store) -> None:
        """Write what is remembered. Raises StoreError; what could not be written stays remembered."""
        if self._used:
            used = dict(self._used)
            await store.write(lambda conn: _enter_use(conn, used))
            self._used = {key: at_ns for key, at_ns in self._used.items() if used.get(key) != at_ns}


class KnownKeys:
    """Keys as they were last looked up, so that a request need not wait for the database before it may ask its own.

    What this hub changes is seen at once (`forget`). What other hubs on the database change is seen after `fresh_ns`;
    None: there are none.
    """

    def __init__(self, fresh_ns: int | None = None) -> None:
        self._fresh_ns = fresh_ns
        self._known: dict[str, tuple[Row[Any], int]] = {}

    async def find(self, store: Store, sha256: str, now_ns: int) -> Row[Any] | None:
        """What is known of the key with this digest. Raises StoreError."""
        known = self._known  # a look that began before something was forgotten is remembered by nobody
        if sha256 in known:
            row, seen_ns = known[sha256]
            if self._fresh_ns is None or 0 <= now_ns - seen_ns < self._fresh_ns:
                return row
        found = await store.read(lambda conn: find(conn, sha256))
        if found is not None:  # of what is no key, anybody could make us remember any amount
            known[sha256] = found, now_ns
        return found

    def forget(self) -> None:
        """Something was changed: a key, perhaps."""
        self._known = {}


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that somebody asks for. None = no end, and the hub's own rate."""

    name: str
    role: Role
    reach: Reach = EVERYTHING
    life_s: int | None = None
    requests_per_s: float | None = None


def make(conn: Connection, new: NewKey, key: str, actor: str, now_ns: int) -> None:
    """Enter `key`. Raises ConflictError when a key of this name is in use, InvalidError for a bounded administrator."""
    if new.role is Role.ADMIN and new.reach.bounded:
        raise InvalidError("an administrator's key reaches everything: leave out labels and models")
    taken = select(api_keys.c.id).where(api_keys.c.name == new.name, api_keys.c.revoked_ns.is_(None))
    if (holder := conn.scalar(taken)) is not None:
        raise ConflictError(f"key {holder} is called {new.name!r} already: revoke it first, or choose another name")
    terms = {
        "name": new.name,
        "role": new.role,
        "reach": _document(new.reach),
        "requests_per_s": new.requests_per_s,
        "expires_ns": None if new.life_s is None else now_ns + new.life_s * 1_000_000_000,
    }
    conn.execute(insert(api_keys).values(sha256=digest(key), created_ns=now_ns, **terms))
    audit.record(conn, now_ns, actor, ("key.create", new.name), after=terms)


def first(conn: Connection, key: str, now_ns: int) -> None:
    """The administrator's key that a new hub begins with."""
    make(conn, NewKey("admin", Role.ADMIN), key, audit.HUB, now_ns)


def find(conn: Connection, sha256: str) -> Row[Any] | None:
    """What is known of the key with this digest."""
    return conn.execute(select(api_keys).where(api_keys.c.sha256 == sha256)).one_or_none()


def revoke(conn: Connection, key: str, actor: str, now_ns: int) -> None:
    """End the key with this id at once. Repeating it changes nothing. Raises UnknownError, ConflictError."""
    row = one(conn, key)
    if row.revoked_ns is not None:
        return
    if _keeps_the_door(row) and conn.scalar(select(func.count()).where(_lasting_admins())) == 1:
        raise ConflictError(f"{row.name!r} is the last administrator's key without an end: make another one first")
    state = key_state(row.expires_ns, row.revoked_ns, now_ns)
    conn.execute(update(api_keys).where(api_keys.c.id == key).values(revoked_ns=now_ns))
    states = {"before": {"state": state}, "after": {"state": KeyState.REVOKED}}
    audit.record(conn, now_ns, actor, ("key.revoke", row.name), **states, id=key)


def one(conn: Connection, key: str) -> Row[Any]:
    """The key with this id. Raises UnknownError."""
    row = conn.execute(select(api_keys).where(api_keys.c.id == key)).one_or_none()
    if row is None:
        raise UnknownError(f"there is no key {key!r}")
    return row


def is_usable(conn: Connection, key: str, now_ns: int) -> bool:
    """Is the key with this id there, neither over nor revoked?"""
    row = conn.execute(select(api_keys).where(api_keys.c.id == key)).one_or_none()
    return row is not None and key_state(row.expires_ns, row.revoked_ns, now_ns) is KeyState.USABLE


def reach_of(row: Row[Any]) -> Reach:
    """How far the key of this row reaches."""
    if row.reach is None:
        return EVERYTHING
    return Reach(row.reach["labels"], frozenset(row.reach["models"]))


def _enter_use(conn: Connection, used: Mapping[str, int]) -> None:
    here = update(api_keys).where(api_keys.c.sha256 == bindparam("of")).values(used_ns=bindparam("at"))
    conn.execute(here, [{"of": sha256, "at": at_ns} for sha256, at_ns in used.items()])


def _document(reach: Reach) -> dict[str, Any] | None:
    return {"labels": dict(reach.labels), "models": sorted(reach.models)} if reach.bounded else None


def _lasting_admins() -> Any:
    return (api_keys.c.role == Role.ADMIN) & api_keys.c.revoked_ns.is_(None) & api_keys.c.expires_ns.is_(None)


def _keeps_the_door(row: Row[Any]) -> bool:
    return row.role == Role.ADMIN and row.expires_ns is None
