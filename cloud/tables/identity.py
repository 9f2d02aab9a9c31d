"""How devices prove who they are, and the metadata by which they know what is genuine."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, LargeBinary, String, Table

from cloud.tables.base import metadata

claims = Table(
    "claims",
    metadata,
    Column("token_sha256", String(64), primary_key=True),
    Column("device", ForeignKey("devices.name"), nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("used_ns", BigInteger),
    Column("verifier", String(64)),  # SHA-256 (hex) of the secret's public side: the same request may be repeated
    Column("replaces", Boolean, nullable=False, default=False),  # new hardware under an old name
)

certificates = Table(  # every certificate ever issued to a device
    "certificates",
    metadata,
    Column("serial", String(40), primary_key=True),  # hex
    Column("device", ForeignKey("devices.name"), nullable=False, index=True),
    Column("pem", String(8192), nullable=False),
    Column("key_sha256", String(64), nullable=False),  # of its public key: the same request gets the same certificate
    Column("issued_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("revoked_ns", BigInteger),
)

trust_metadata = Table(  # every version of every TUF role that this hub has published
    "trust_metadata",
    metadata,
    Column("role", String(63), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
)
