"""Files by digest: what they are, where they came from, which are out on the broker, which turn one into another."""

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, String, Table

from cloud.tables.base import metadata

objects = Table(
    "objects",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
)

artefacts = Table(  # objects that came as uploads and passed their inspection
    "artefacts",
    metadata,
    Column("sha256", ForeignKey("objects.sha256"), primary_key=True),
    Column("kind", String(16), nullable=False),  # cloud.ports.Inspection: onnx | tflite | safetensors
    Column("facts", JSON, nullable=False),
    Column("uploaded_by", String(100), nullable=False),
    Column("created_ns", BigInteger, nullable=False),
)

retained = Table(  # objects whose chunks the hub has published, so that they are cleared again after any restart
    "retained",
    metadata,
    Column("sha256", ForeignKey("objects.sha256"), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("used_ns", BigInteger, nullable=False, default=0),  # last needed: the least recent one gives way
)

deltas = Table(  # objects that turn one file into another; NULL object = not worth it
    "deltas",
    metadata,
    Column("base", String(64), primary_key=True),
    Column("target", String(64), primary_key=True),
    Column("object", JSON),  # wire.release.ObjectRef, brief
    Column("created_ns", BigInteger, nullable=False),
)
