"""The audit trail: every change with its actor, written in the transaction that makes the change.

Whoever makes a change on behalf of an API request says so once, on the connection (`on_behalf_of`); the rows written in
that transaction then carry the request's id.
"""

from typing import Any

from sqlalchemy import Connection, insert

from cloud.tables import audit

HUB = "hub"
"""Actor of what the hub does by itself."""
_REQUEST = "fleetloop_request"
_ENTER = insert(audit)


def on_behalf_of(conn: Connection, request: str) -> None:
    """What is recorded in this transaction was caused by the API request with this id."""
    conn.execution_options(**{_REQUEST: request})


def record(
    conn: Connection,
    now_ns: int,
    actor: str,
    change: tuple[str, str],
    *,
    before: Any = None,
    after: Any = None,
    **detail: Any,
) -> None:
    """Note that `actor` did `change` = (action, subject).

    `before` and `after` are mappings: what the change replaced by what, where that can be said.
    """
    action, subject = change
    row = {"at_ns": now_ns, "actor": actor, "action": action, "subject": subject, "detail": detail}
    states = {"before": None if before is None else dict(before), "after": None if after is None else dict(after)}
    request = conn.get_execution_options().get(_REQUEST, "")
    conn.execute(_ENTER, row | states | {"request": request})
