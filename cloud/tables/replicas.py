"""Which of several hubs on one database leads."""

from sqlalchemy import BigInteger, Column, String, Table

from cloud.tables.base import metadata

leadership = Table(  # which of the hubs that share this database leads: one row
    "leadership",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("holder", String(64), nullable=False),  # "" = nobody
    Column("term", BigInteger, nullable=False),  # grows with every change of the holder, never falls
    Column("beat", BigInteger, nullable=False),  # grows with every sign of life of the holder
)
