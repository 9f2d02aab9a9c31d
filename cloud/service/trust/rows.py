"""The table of trust metadata: one row for every version of every role."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select

from cloud.core.trust import ROOT, file_of
from cloud.errors import ConflictError, UnknownError
from cloud.many import among
from cloud.tables import trust_metadata
from wire.errors import WireError
from wire.trust import Standing

NO_ROOT = (
    "this hub has no root of trust yet, so devices could verify nothing: make one with `fleetloop keys init` and hand "
    "it in with `fleetloop keys push` (docs/security.md)"
)

_OF_ROLE = select(trust_metadata).where(trust_metadata.c.role == bindparam("role"))
_NEWEST = _OF_ROLE.order_by(trust_metadata.c.version.desc()).limit(1)
_ONE = _OF_ROLE.where(trust_metadata.c.version == bindparam("version"))

_IN_THE_WAY = delete(trust_metadata).where(
    trust_metadata.c.role == bindparam("of"), trust_metadata.c.version >= bindparam("since")
)
_ENTERED = insert(trust_metadata)

_LATER = trust_metadata.alias("later")
_NEWEST_OF = select(trust_metadata).where(
    among(trust_metadata.c.role, "roles"),
    trust_metadata.c.version
    == select(func.max(_LATER.c.version)).where(_LATER.c.role == trust_metadata.c.role).scalar_subquery(),
)


def newest_of(conn: Connection, roles: Sequence[str]) -> dict[str, Row[Any]]:
    """The newest document of each of these roles that has one, in their order."""
    found = {row.role: row for row in conn.execute(_NEWEST_OF, {"roles": roles}).all()}
    return {role: found[role] for role in roles if role in found}


def newest(conn: Connection, role: str) -> Row[Any] | None:
    """The newest document of a role."""
    return conn.execute(_NEWEST, {"role": role}).one_or_none()


def current_root(conn: Connection) -> bytes:
    """The root that counts. Raises ConflictError when there is none, with what to do."""
    row = newest(conn, ROOT)
    if row is None:
        raise ConflictError(NO_ROOT)
    return bytes(row.content)


def file(conn: Connection, name: str) -> bytes:
    """A file of the repository by the name that clients ask for. Raises UnknownError."""
    wanted = file_of(name)
    if wanted is not None:
        role, version = wanted
        one = {"role": role, "version": version}
        row = newest(conn, role) if version is None else conn.execute(_ONE, one).one_or_none()
        if row is not None:
            return bytes(row.content)
    raise UnknownError(f"there is no trust metadata {name!r}")


def store(conn: Connection, role: str, standing: Standing, content: bytes, now_ns: int) -> None:
    """Add a document. Where counting begins anew, the rows in its way are ones that no longer hold; they make room."""
    conn.execute(_IN_THE_WAY, {"of": role, "since": standing.version})
    row = {"role": role, "version": standing.version, "content": content, "expires_ns": standing.expires_ns}
    conn.execute(_ENTERED, {**row, "created_ns": now_ns})


def holds(check: Callable[..., object], *arguments: object) -> bool:
    """Does the notary's check pass?"""
    try:
        check(*arguments)
    except WireError:
        return False
    return True
