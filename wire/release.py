"""What a publisher vouches for: a release names every file of one model version by digest, and what each needs to run.

A version is an fp32 parent, variants derived from it, and companions: the train-step and eval graphs, the parameters
that learning starts from, and golden vectors. The model card says where it all came from.
"""

import hashlib
from typing import Annotated

import msgspec

from wire.codec import SCHEMA, Document
from wire.transfer.chunks import digests

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9._-]{0,62}$")]

MAX_OBJECT_BYTES = 64 * 1024 * 1024


class ObjectRef(Document, frozen=True, kw_only=True):
    """An object by content: SHA-256, length in bytes, and the SHA-256 of each of its chunks in order.

    `chunks` may be empty where the reference itself must stay small; then only the whole digest is checked.
    """

    sha256: Sha256
    bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_OBJECT_BYTES)]
    chunks: Annotated[tuple[Sha256, ...], msgspec.Meta(max_length=1200)] = ()

    def brief(self) -> "ObjectRef":
        """The same reference without its chunk digests."""
        return ObjectRef(sha256=self.sha256, bytes=self.bytes)


def object_ref(data: bytes) -> ObjectRef:
    """Describe `data` (1 byte to MAX_OBJECT_BYTES)."""
    return ObjectRef(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), chunks=digests(data))


class RuntimeNeeds(Document, frozen=True, kw_only=True):
    """What a device must offer to run a variant; checked on the hub and again on the device."""

    engine: str = "onnxruntime"
    opset: int
    operators: tuple[str, ...]
    min_version: str = "1.16"
    accelerator: str = ""
    """Name of the accelerator that it cannot do without, e.g. "cuda"; empty = none."""
    ram_bytes: int = 0
    flash_bytes: int = 0
    """Room that the version takes on the device, model and golden vectors together."""


class Golden(Document, frozen=True, kw_only=True):
    """How closely a device must reproduce the golden outputs of a variant (see `wire.golden`)."""

    logits: str
    """Name of the tensor in the golden file that holds this variant's expected logits."""
    tolerance: float
    """Largest |delta logit|, as a share of the range of the expected logits."""


class Variant(Document, frozen=True, kw_only=True):
    """One deployable form of the version."""

    name: Name
    precision: str
    file: ObjectRef
    needs: RuntimeNeeds
    golden: Golden
    metrics: dict[str, float] = {}
    """Measured on the hub: accuracy, p50_ms, p95_ms, rss_mb, agreement..."""


class Tensor(Document, frozen=True, kw_only=True):
    """Name, shape and dtype of one array. A dimension of -1 is free."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


class Companions(Document, frozen=True, kw_only=True):
    """The files that testing and learning on the device need, beside the variants."""

    golden: ObjectRef
    parameters: ObjectRef
    train_step: ObjectRef | None = None
    eval: ObjectRef | None = None


class Learning(Document, frozen=True, kw_only=True):
    """How the train-step graph is to be fed: its fixed batch size and the parameters, in order."""

    batch: int
    parameters: tuple[Tensor, ...]


class Release(Document, frozen=True, kw_only=True):
    """One version of one model. `counter` only ever grows; a device refuses anything below its floor."""

    schema: int = SCHEMA
    model: Name
    version: Annotated[int, msgspec.Meta(ge=1)]
    counter: Annotated[int, msgspec.Meta(ge=1)]
    input: Tensor
    classes: tuple[str, ...]
    parent: ObjectRef
    variants: Annotated[tuple[Variant, ...], msgspec.Meta(min_length=1, max_length=32)]
    companions: Companions
    learning: Learning | None = None
    card: ObjectRef

    def variant(self, name: str) -> Variant | None:
        """The variant called `name`, if this release has one."""
        return next((variant for variant in self.variants if variant.name == name), None)


class Lineage(Document, frozen=True, kw_only=True):
    """Where a version came from, by id and digest: one chain from data to fleet."""

    workload: str
    data_sha256: Sha256
    job: str
    parent_version: int | None = None
    federated_run: str | None = None
    seed: int = 0


class Candidate(Document, frozen=True, kw_only=True):
    """A candidate that the optimizer measured, kept or refused with its reasons."""

    name: str
    bytes: int
    kept: bool
    reasons: tuple[str, ...] = ()
    metrics: dict[str, float] = {}


class ModelCard(Document, frozen=True, kw_only=True):
    """What a person wants to know of a version before trusting it."""

    schema: int = SCHEMA
    model: Name
    version: int
    title: str
    intended_use: str
    licence: str
    lineage: Lineage
    metrics: dict[str, float]
    candidates: tuple[Candidate, ...]
    software: dict[str, str]
