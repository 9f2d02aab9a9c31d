"""What the HTTP API takes and gives. Requests refuse unknown fields; times are integer nanoseconds since 1970."""

from typing import Annotated, Any, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
VersionNumber = Annotated[int, Field(ge=1, lt=2**31)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Label = Annotated[str, Field(max_length=63)]
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
    release: dict[str, Any]
    card: dict[str, Any]


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
    """Make an API key. It is shown once and kept as a digest."""

    name: Name
    role: Role


class KeyView(BaseModel):
    """A new API key, for `Authorization: Bearer`."""

    name: str
    role: Role
    key: str


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
