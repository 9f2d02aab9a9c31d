"""The contract of a job: the specification it reads and the `result.json` it writes, both JSON of these shapes.

Whoever launches jobs needs only this module, which imports neither torch nor onnx.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

RESULT_FILE = "result.json"

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Immutable, and a field it does not know is an error."""


class Budgets(_Document, frozen=True, kw_only=True):
    """What a candidate may cost against the parent. None switches a gate off."""

    accuracy_drop: Share | None = 0.01
    """Largest loss of accuracy on the hub's holdout."""
    agreement: Share | None = 0.98
    """Smallest share of holdout inputs on which candidate and parent name the same class. Near its ceiling,
    accuracy hides what a candidate unlearnt; one that answers differently here differs more where nobody has looked."""
    bytes_ratio: float = 1.0
    """The file must be smaller than this share of the parent's."""
    latency_ratio: float = 2.0
    """Median latency at most this many times the parent's, measured in turns in one process."""


class TrainSpec(_Document, frozen=True, kw_only=True, tag_field="kind", tag="train"):
    """Train a first version on the hub's data, and make its candidates."""

    workload: str
    out: str
    seed: int = 0
    prune_share: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] = 0.5
    targets: tuple[Literal["x86", "arm"], ...] = ("x86",)
    budgets: Budgets = Budgets()


class DeriveSpec(_Document, frozen=True, kw_only=True, tag_field="kind", tag="derive"):
    """Make candidates of a federated result. Nothing is tuned on the hub's data, which would undo what devices learnt.

    `parameters` is the safetensors file of the result; `eval_graph` and `train_step` are the companions of the version
    it was trained from. All are paths.
    """

    workload: str
    out: str
    parameters: str
    eval_graph: str
    train_step: str
    seed: int = 0
    targets: tuple[Literal["x86", "arm"], ...] = ("x86",)
    # Only devices can say how accurate a federated parent is; the hub judges whether a variant is still that parent.
    budgets: Budgets = Budgets(accuracy_drop=None, agreement=0.97)


JobSpec = TrainSpec | DeriveSpec


class FileReport(_Document, frozen=True, kw_only=True):
    """A file in the job's directory."""

    file: str
    sha256: Sha256
    bytes: int


class Metrics(_Document, frozen=True, kw_only=True):
    """Measured in a fresh process on this machine: CPU, one thread, batch 1 for latency and memory."""

    accuracy: float
    """Share of the hub's holdout that is classified rightly."""
    agreement: float
    """Share of the hub's holdout on which candidate and parent name the same class."""
    p50_ms: float
    p95_ms: float
    latency_ratio: float
    """Median latency over the parent's, measured in turns."""
    rss_mb: float
    """Peak resident memory of a process with this model alone."""
    golden_worst: float
    """Largest |delta logit| against the golden file, as a share of the range."""


class CandidateReport(_Document, frozen=True, kw_only=True):
    """One candidate: the file, what it needs, what was measured, and the gates that refused it."""

    name: str
    precision: str
    model: FileReport | None = None
    opset: int = 0
    operators: tuple[str, ...] = ()
    golden_logits: str = ""
    """Name of its tensor in the golden file."""
    golden_tolerance: float = 0.0
    metrics: Metrics | None = None
    accepted: bool = False
    reasons: tuple[str, ...] = ()
    """Why it was refused, each beginning with the name of the gate."""
    pareto: bool = False
    """Accepted, and no other accepted candidate is at least as good in bytes, latency and accuracy."""


class Companions(_Document, frozen=True, kw_only=True):
    """What devices need beside a variant."""

    golden: FileReport
    parameters: FileReport
    train_step: FileReport
    eval: FileReport


class ParameterReport(_Document, frozen=True, kw_only=True):
    """A trainable parameter: float32, of this shape."""

    name: str
    shape: tuple[int, ...]


class About(_Document, frozen=True, kw_only=True):
    """The workload's words for the model card."""

    title: str
    intended_use: str
    licence: str


class Result(_Document, frozen=True, kw_only=True):
    """What a job leaves behind as `result.json`. `parent` and `chosen` are names of candidates."""

    kind: Literal["train", "derive"]
    workload: str
    about: About
    seed: int
    input_shape: tuple[int, ...]
    classes: tuple[str, ...]
    parent: str
    chosen: str
    candidates: tuple[CandidateReport, ...]
    companions: Companions
    batch: int
    """Fixed batch size of the train-step graph."""
    parameters: tuple[ParameterReport, ...]
    data_sha256: Sha256
    software: dict[str, str]
    wall_s: float

    def candidate(self, name: str) -> CandidateReport:
        """The report on the candidate called `name`. Raises KeyError when there is none."""
        for report in self.candidates:
            if report.name == name:
                return report
        raise KeyError(name)
