"""The audit trail: every change with its actor, written in the transaction that makes the change."""

from typing import Any

from sqlalchemy import Connection, insert

from cloud.tables import audit

HUB = "hub"
"""Actor of what the hub does by itself."""


def record(conn: Connection, now_ns: int, actor: str, change: tuple[str, str], **detail: Any) -> None:
    """Note that `actor` did `change` = (action, subject)."""
    action, subject = change
    conn.execute(insert(audit).values(at_ns=now_ns, actor=actor, action=action, subject=subject, detail=detail))
