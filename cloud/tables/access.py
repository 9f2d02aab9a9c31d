"""Who may ask the hub for what, who did, and which requests were answered already."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer, LargeBinary, String, Table

from cloud.tables.base import metadata


def _key_id(row: Any) -> str:
    """A key's public name: it tells nothing of the key, and is found in what is kept of it."""
    return str(row.get_current_parameters()["sha256"][:16])


api_keys = Table(
    "api_keys",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("id", String(16), nullable=False, unique=True, default=_key_id),
    Column("name", String(63), nullable=False),
    Column("role", String(32), nullable=False),  # core.identity.Role
    Column("reach", JSON(none_as_null=True)),  # {"labels": {...}, "models": [...]}: core.reach.Reach; NULL = everything
    Column("requests_per_s", Float),  # NULL = as the hub's settings say
    Column("created_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger),
    Column("revoked_ns", BigInteger),
    Column("used_ns", BigInteger),  # to within some minutes
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("request", String(64), nullable=False, default=""),  # id of the API request; "" = none caused it
    Column("action", String(64), nullable=False),  # e.g. rollout.create, version.release, rollout.wave
    Column("subject", String(200), nullable=False, index=True),
    Column("detail", JSON, nullable=False),
    Column("before", JSON(none_as_null=True)),  # what the change replaced; NULL = nothing, or not to be said
    Column("after", JSON(none_as_null=True)),
)

idempotency = Table(  # POSTs that carried an Idempotency-Key and changed something
    "idempotency",
    metadata,
    Column("api_key", String(16), primary_key=True),  # api_keys.id
    Column("key", String(200), primary_key=True),
    Column("fingerprint", String(64), nullable=False),  # SHA-256 (hex) of method, path, query and body
    Column("created_ns", BigInteger, nullable=False, index=True),
    Column("secret", Boolean, nullable=False),  # the answer is shown once, and not kept
    Column("status", Integer),  # NULL = the answer never left
    Column("headers", JSON(none_as_null=True)),
    Column("body", LargeBinary),
)
