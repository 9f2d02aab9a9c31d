"""Named groups of devices: a selector under a name. Who belongs is evaluated whenever it is asked."""

from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from cloud.core.rollout import ACTIVE
from cloud.errors import ConflictError, UnknownError
from cloud.service import audit
from cloud.service.effects import Effects, Wake, wake
from cloud.service.selecting import GROUP, written
from cloud.tables import ENROLLED, device_groups, devices, federated_runs, rollouts


def put(conn: Connection, name: str, selector: str, description: str | None, by: tuple[str, int]) -> Effects:
    """Make the group, or give it another selector, `by` = (actor, now); description: None = as it is.

    Raises InvalidError.
    """
    written(selector)
    actor, now_ns = by
    values: dict[str, Any] = {"selector": selector, "updated_ns": now_ns}
    if description is not None:
        values["description"] = description
    known = select(device_groups.c.selector, device_groups.c.description).where(device_groups.c.name == name)
    before = conn.execute(known).one_or_none()
    if before is None:
        conn.execute(insert(device_groups).values(name=name, created_ns=now_ns, **values))
    else:
        conn.execute(update(device_groups).where(device_groups.c.name == name).values(values))
    states = {"before": None if before is None else before._mapping, "after": conn.execute(known).one()._mapping}
    audit.record(conn, now_ns, actor, ("group.put", name), **states)
    return wake(Wake.ROLLOUTS)


def remove(conn: Connection, name: str, actor: str, now_ns: int) -> Effects:
    """Forget the group. Raises UnknownError; ConflictError while a rollout or federated run goes by it."""
    find(conn, name)
    for what, ident, selector, going in (
        ("rollout", rollouts.c.id, rollouts.c.selector[GROUP], rollouts.c.state.in_(sorted(ACTIVE))),
        (
            "federated run",
            federated_runs.c.id,
            federated_runs.c.request[("selector", GROUP)],
            federated_runs.c.state.in_(("running", "deriving")),
        ),
    ):
        user = conn.scalar(select(ident).where(going, selector.as_string() == name).limit(1))
        if user is not None:
            raise ConflictError(f"group {name!r} is used by {what} {user}: wait for it or abort it")
    conn.execute(delete(device_groups).where(device_groups.c.name == name))
    audit.record(conn, now_ns, actor, ("group.remove", name))
    return wake()


def find(conn: Connection, name: str) -> Row[Any]:
    """The group. Raises UnknownError."""
    row = conn.execute(select(device_groups).where(device_groups.c.name == name)).one_or_none()
    if row is None:
        raise UnknownError(f"there is no group {name!r}")
    return row


def size(conn: Connection, group: Row[Any]) -> int:
    """How many devices of the fleet belong to it now."""
    return conn.scalar(select(func.count()).select_from(devices).where(ENROLLED, written(group.selector))) or 0
