"""What the HTTP API takes and gives. Requests refuse unknown fields; times are integer nanoseconds since 1970."""

from typing import Annotated, Any, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
VersionNumber = Annotated[int, Field(ge=1, lt=2**31)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Label = Annotated[str, Field(max_length=63)]
LabelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$")]
Labels = Annotated[dict[Label, Label], Field(max_length=32)]
Role = Literal["viewer", "operator", "publisher", "admin"]


MAX_CLAIMS = 10_000


class Request(BaseModel):
    """A body: immutable, and a field it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Problem(BaseModel):
    """An error (RFC 9457, application/problem+json)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str
    """As in the answer's X-Request-Id; what to quote when asking somebody who can read the hub's log."""


class Health(BaseModel):
    """Is the hub up, and can it reach its devices?"""

    status: Literal["ok", "degraded"]
    broker_connected: bool
    version: str


class ClaimTerms(Request):
    """What a claim says of a device. What is left out stays as it is for a device that is known."""

    labels: Labels | None = None
    federated: bool | None = None
    """May it take part in federated learning?"""
    replaces: bool = False
    """Give the name of an enrolled device to new hardware; the old hardware is out when the new one enrols."""


class ClaimRequest(ClaimTerms):
    """Announce a device. The answer is its claim file (wire.identity.ClaimFile), shown once."""

    device: Name


class ClaimsRequest(ClaimTerms):
    """Announce many devices: those named, or `count` devices called prefix-0001, prefix-0002... from `first` on."""

    devices: Annotated[list[Name], Field(min_length=1, max_length=MAX_CLAIMS)] | None = None
    prefix: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,52}$")] | None = None
    count: Annotated[int, Field(ge=1, le=MAX_CLAIMS)] = 1
    first: Annotated[int, Field(ge=0, lt=10**9)] = 1


class RevocationRequest(Request):
    """Why a device is to be put out of the fleet."""

    reason: Annotated[str, Field(min_length=1, max_length=200)]


class SlotView(BaseModel):
    """A model slot as the device last reported it; the model fields are empty while nothing is committed."""

    slot: str
    phase: str
    model: str | None
    version: int | None
    variant: str | None
    outcome: str | None
    reason: str
    golden_matched: int | None
    golden_total: int | None


class DeviceView(BaseModel):
    """A device: what it is, what it should run and what it says it runs."""

    name: str
    labels: dict[str, str]
    federated: bool
    agent: str
    """Version of its agent; empty until it has reported."""
    held_reason: str
    """Why no rollout may take it; empty when any may."""
    decommissioned_ns: int | None
    enrolled: bool
    """Is it of the fleet now: enrolled, and not revoked since?"""
    revoked_ns: int | None
    clone_suspected_ns: int | None
    """Since when two devices seem to speak under this name."""
    certificate_expires_ns: int | None
    """End of its newest certificate; none where devices log in with passwords."""
    online: bool
    seen_ns: int | None
    desired_sequence: int
    accepted_sequence: int
    slots: list[SlotView]
    last_refusal: str
    """Why the hub refused the device's last bad message; empty when there was none."""
    refusal_count: int
    reported: dict[str, Any] | None = None
    """Its newest wire.messages.Reported (only when one device is asked for)."""
    telemetry: dict[str, Any] | None = None
    """Its newest wire.messages.Telemetry (only when one device is asked for)."""


class ArtefactView(BaseModel):
    """An uploaded file. `facts`: what its content says of it (operators and shapes, or its tensors)."""

    sha256: str
    bytes: int
    kind: Literal["onnx", "tflite", "safetensors"]
    facts: dict[str, Any]
    uploaded_by: str
    created_ns: int


Reason = Annotated[str, Field(min_length=1, max_length=500)]


class ReasonRequest(Request):
    """Why it is done; kept in the audit trail."""

    reason: Reason


class LabelsRequest(Request):
    """Labels to put and to drop; all others stay."""

    put: Annotated[dict[LabelName, Label], Field(max_length=32)] = {}
    drop: Annotated[list[Label], Field(max_length=32)] = []


class PinRequest(Request):
    """Keep a slot at this version: rollouts of another one do not take the device."""

    model: Name
    version: VersionNumber
    reason: Reason


class PinView(BaseModel):
    """A slot that stays at one version."""

    slot: str
    model: str
    version: int
    reason: str
    pinned_by: str
    created_ns: int


class SlotTwinView(BaseModel):
    """A slot: what it shall run (wire.assignment), what the device says (wire.messages), and what is in between."""

    slot: str
    sync: Literal["in_sync", "pending", "installing", "failed", "unassigned"]
    reason: str
    desired: dict[str, Any] | None
    reported: dict[str, Any] | None


Skew = Literal["unknown", "current", "behind", "ahead", "incompatible"]


class TwinView(BaseModel):
    """The twin of a device. `presence`: away = gone for less than a minute."""

    device: str
    presence: Literal["online", "away", "offline"]
    gone_ns: int | None
    agent: str
    skew: Skew
    """How the control documents that its agent reads lie to those that this hub writes."""
    desired_sequence: int
    accepted_sequence: int
    held: str | None
    """Why no rollout may take it; null = any may."""
    pins: list[PinView]
    slots: list[SlotTwinView]


class EventView(BaseModel):
    """Something that happened to a device. `actor` is empty where it was the device itself."""

    at_ns: int
    event: str
    actor: str
    detail: dict[str, Any]


class AgentView(BaseModel):
    """Devices that run one version of the agent."""

    agent: str
    skew: Skew
    devices: int


class FleetView(BaseModel):
    """The fleet as a whole. `halted`: why nobody is assigned anything; null = it is not halted."""

    halted: str | None
    online: int
    away: int
    offline: int
    agents: list[AgentView]


class GroupRequest(Request):
    """A group: everything that the selector means, at any time."""

    selector: Annotated[str, Field(max_length=1000, examples=["arm=left, role in (learner, tester), !broken"])]
    description: Annotated[str, Field(max_length=500)] = ""


class GroupView(BaseModel):
    """A group and how many devices of the fleet belong to it now."""

    name: str
    selector: str
    description: str
    devices: int
    created_ns: int
    updated_ns: int


class JobRequest(Request):
    """Train a new version of `model` from `workload` (a registered name or "module:attribute")."""

    kind: Literal["train"]
    model: Name
    workload: Annotated[str, Field(min_length=1, max_length=200)]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class JobView(BaseModel):
    """A job in its own process, with what it said about its progress (oldest first, the last 200)."""

    id: str
    kind: str
    state: Literal["queued", "running", "succeeded", "failed"]
    model: str
    federated_run: str | None
    attempts: int
    error: str
    created_ns: int
    started_ns: int | None
    finished_ns: int | None
    events: list[dict[str, Any]] = []
    version: int | None = None
    """The version that it made, if it made one."""


class ModelView(BaseModel):
    """A model and how far its versions go."""

    name: str
    workload: str
    last_version: int
    production: int | None
    """The version in production."""


class VersionView(BaseModel):
    """One version. `release` and `card` are wire.release documents; `card.candidates` holds what was measured."""

    model: str
    version: int
    counter: int
    state: Literal["awaiting_signature", "released", "refused"]
    reason: str
    chosen: str
    parent_version: int | None
    federated_run: str | None
    job: str
    created_ns: int
    released_ns: int | None
    retired: str
    """Why nobody may use it any more; empty when it may be used."""
    release: dict[str, Any]
    card: dict[str, Any]


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


Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
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
    source: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,55}$")]
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


class SigningRequestView(BaseModel):
    """A release that waits for the publisher (`payload`: base64 of the exact bytes to sign)."""

    id: str
    model: str
    version: int
    payload: str
    gate_report: dict[str, Any]
    state: Literal["pending", "signed", "refused"]
    reason: str
    created_ns: int


class MetadataRequest(Request):
    """TUF metadata by role ("targets", "bin-0" to "bin-f"): base64 of the signed files."""

    metadata: Annotated[dict[str, Base64Bytes], Field(min_length=1, max_length=17)]

    def files(self) -> dict[str, bytes]:
        """The files themselves."""
        return dict(self.metadata)


class DeliveryRequest(MetadataRequest):
    """What was signed anew. `restored`: this hub came back from a backup and takes what was signed since, too."""

    restored: bool = False


class RootRequest(Request):
    """A root of trust: base64 of a signed root.json."""

    root: Base64Bytes


class RoleView(BaseModel):
    """The newest metadata of a role."""

    version: int
    expires_ns: int
    sha256: str


class TrustKeys(BaseModel):
    """Public ed25519 keys (hex) by role; `threshold` of the root keys must sign a root."""

    root: list[str]
    threshold: int
    targets: list[str]
    online: list[str]
    director: list[str]


class HeldKeys(BaseModel):
    """Public keys (hex) whose private halves this hub holds."""

    online: list[str]
    director: list[str]


class TrustView(BaseModel):
    """What devices can trust today. `ready`: there is a root, and the publisher has signed everything under it."""

    ready: bool
    keys: TrustKeys | None
    """As the newest root says; null while there is none."""
    held: HeldKeys
    roles: dict[str, RoleView]


class RefusalRequest(Request):
    """Why the publisher does not sign."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]


class KeyRequest(Request):
    """Make an API key. It is shown once and kept as a digest.

    `labels` and `models` bound what it reaches: devices that carry all these labels, only these models.
    """

    name: Name
    role: Role
    labels: Annotated[dict[LabelName, Label], Field(max_length=32)] = {}
    models: Annotated[list[Name], Field(max_length=100)] = []
    expires_in_s: Annotated[int, Field(ge=60, le=10 * 365 * 24 * 3600)] | None = None
    """None = it does not expire."""
    requests_per_s: Annotated[float, Field(ge=0.1, le=10_000)] | None = None
    """None = as the hub does it for all."""


class KeyView(BaseModel):
    """An API key, without what makes it one."""

    id: str
    name: str
    role: Role
    state: Literal["usable", "expired", "revoked"]
    labels: dict[str, str]
    models: list[str]
    requests_per_s: float | None
    created_ns: int
    expires_ns: int | None
    revoked_ns: int | None
    used_ns: int | None
    """When it was last used, to within some minutes."""


class NewKeyView(KeyView):
    """A new API key, for `Authorization: Bearer`."""

    key: str


class ChangeView(BaseModel):
    """That something changed; what exactly stands in the audit trail under the same id."""

    id: int
    at_ns: int
    action: str
    subject: str


class AuditView(BaseModel):
    """A change: who made it, through which request, and what it replaced, where that can be said."""

    id: int
    at_ns: int
    actor: str
    """Name of an API key, `hub` for what the hub does by itself, `device:NAME` for what a device does."""
    request: str
    action: str
    subject: str
    detail: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class TrainRequest(Request):
    """What devices are told for local training."""

    local_epochs: Annotated[int, Field(ge=1, le=100, alias="local-epochs")] = 2
    lr: Annotated[float, Field(gt=0, le=10)] = 0.02
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9


class NonInferiorityRequest(Request):
    """The devices that the selector matches may lose at most `margin` of accuracy (mean over them)."""

    selector: Labels
    margin: Annotated[float, Field(ge=0, le=1)]


class FederatedRequest(Request):
    """Learn on the devices, from a released version on. Eligible: federated, enrolled, matched by the selector."""

    model: Name
    version: VersionNumber
    selector: Labels = {}
    strategy: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")] = "FedAvg"
    strategy_args: dict[str, float | int | bool | str] = {}
    rounds: Annotated[int, Field(ge=1, le=10_000)] = 10
    train: TrainRequest = TrainRequest()
    evaluate_every: Annotated[int, Field(ge=0, le=10_000)] = 1
    non_inferiority: NonInferiorityRequest | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class RoundView(BaseModel):
    """One round as the aggregator reported it; bytes are MQTT payload bytes published and received by the cloud."""

    round: int
    clients: int
    failures: list[Any]
    train_loss: float | None
    eval_acc: float | None
    eval_loss: float | None
    bytes_down: int
    bytes_up: int
    seconds: float


class FederatedView(BaseModel):
    """A federated run."""

    id: str
    model: str
    version: int
    state: Literal["running", "deriving", "succeeded", "refused", "failed"]
    reason: str
    strategy: str
    devices: list[str]
    rounds_planned: int
    rounds: list[RoundView]
    verdict: dict[str, Any] | None
    result_version: int | None
    created_ns: int
    finished_ns: int | None
