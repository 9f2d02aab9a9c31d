"""Versions beyond their making here: files, imports, promotion, lineage."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from cloud.api.schemas.base import DIGEST, SOURCE, Count, Label, Name, Request, VersionNumber


class ArtefactView(BaseModel):
    """An uploaded file. `facts`: what its content says of it (operators and shapes, or its tensors)."""

    sha256: str
    bytes: int
    kind: Literal["onnx", "tflite", "safetensors"]
    facts: dict[str, Any]
    uploaded_by: str
    created_ns: int


Digest = Annotated[str, Field(pattern=DIGEST)]

Figures = Annotated[dict[Label, float], Field(max_length=32)]


class VariantRequest(Request):
    """One deployable file of an imported version; the first one is what rollouts ship."""

    name: Name
    precision: Label
    sha256: Digest
    logits: Annotated[str, Field(min_length=1, max_length=200)]
    """The tensor of the golden file that it must reproduce."""
    tolerance: Annotated[float, Field(gt=0, le=1)]
    """Largest |delta logit|, as a share of the range of the expected logits."""
    ram_bytes: Annotated[int, Field(ge=0, lt=2**53)] = 0
    metrics: Figures = {}


class ImportRequest(Request):
    """A version that was made elsewhere, from files that were uploaded as artefacts."""

    workload: Annotated[str, Field(min_length=1, max_length=200)]
    source: Annotated[str, Field(pattern=SOURCE)]
    """The maker's own id of the run that made it; each is taken once."""
    title: Annotated[str, Field(min_length=1, max_length=200)]
    intended_use: Annotated[str, Field(max_length=2000)] = ""
    licence: Annotated[str, Field(min_length=1, max_length=200)]
    data_sha256: Digest
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    software: Annotated[dict[Label, Label], Field(max_length=64)] = {}
    classes: Annotated[tuple[Label, ...], Field(min_length=1, max_length=4096)]
    parent: Digest
    """The fp32 parent (ONNX)."""
    variants: Annotated[tuple[VariantRequest, ...], Field(min_length=1, max_length=32)]
    golden: Digest
    """safetensors: "inputs", and the expected logits of each variant."""
    parameters: Digest
    train_step: Digest | None = None
    eval: Digest | None = None
    batch: Annotated[int, Field(ge=1, le=65_536)] | None = None
    parent_version: VersionNumber | None = None


class PromotionRule(Request):
    """What devices must have shown before a released version gets into production."""

    min_devices: Count = 1
    min_commit_rate: Annotated[float, Field(ge=0, le=1)] = 0.95
    finished_rollout: bool = True
    min_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    """Among the predictions that applications judged; `min_feedback` of them have to be there."""
    min_feedback: Count = 100
    automatic: bool = False
    """The hub promotes by itself once the rule is met."""


class PromotionRequest(Request):
    """Put a released version into production. `override`: why, although its rule is not met."""

    override: Annotated[str, Field(max_length=500)] = ""


class RetirementRequest(Request):
    """Why nobody may roll the version out or learn from it any more."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]


class PromotionView(BaseModel):
    """Where a version stands and what keeps it from production."""

    stage: Literal["candidate", "refused", "released", "production", "retired"]
    rule: PromotionRule
    unmet: list[str]
    evidence: dict[str, int]
    retired: str


class NodeView(BaseModel):
    """Something in the lineage; its id is kind:name."""

    id: str
    kind: Literal["data", "run", "candidate", "variant", "version", "rollout", "federated"]
    facts: dict[str, Any]


class EdgeView(BaseModel):
    """`source` went into `target`, as `role` says."""

    source: str
    target: str
    role: str


class LineageView(BaseModel):
    """What a version came from and what became of it. `lineage` is the same for all that descends from one training."""

    lineage: str | None
    nodes: list[NodeView]
    edges: list[EdgeView]
