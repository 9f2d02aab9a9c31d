"""Versions of a model as the cloud would publish them, small, and the assignments that name them. All of it signed."""

from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from simulator.core.rng import Rng
from wire.adapters.keys import SigningKey
from wire.assignment import Assignment, Execution, FederatedPolicy, SlotAssignment
from wire.codec import encode
from wire.dsse import ASSIGNMENT_TYPE, RELEASE_TYPE, seal
from wire.release import Companions, Golden, ObjectRef, Release, RuntimeNeeds, Tensor, Variant, object_ref

DEVICE, MODEL, SLOT = "p01-left", "watch", "main"
DIRECTOR, PUBLISHER, STRANGER = (SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32)) for n in (1, 2, 3))
FEATURES = 4
"""Values of one input."""
SMALL_BYTES = 130_000
"""Three chunks."""
LARGE_BYTES = 1_100_000
"""More than one group of chunks that is made durable at once."""


@dataclass(frozen=True)
class Shipped:
    """A signed release with its files by digest."""

    release: Release
    envelope: bytes
    files: dict[str, bytes]

    @property
    def model(self) -> ObjectRef:
        """The file that a device runs."""
        return self.release.variants[0].file


@cache
def ship(version: int, size: int = SMALL_BYTES, key: SigningKey = PUBLISHER) -> Shipped:
    """Version `version` with a model of `size` random bytes."""
    rng = Rng(version, "model")
    return release(version, rng.bytes(size), rng.bytes(1_000), key)


def release(version: int, model: bytes, golden: bytes, key: SigningKey = PUBLISHER) -> Shipped:
    """Version `version` of these files."""
    document = Release(
        model=MODEL,
        version=version,
        counter=version,
        input=Tensor(name="x", shape=(-1, FEATURES)),
        classes=("a", "b", "c", "d"),
        parent=object_ref(b"parent"),
        variants=(
            Variant(
                name="fp32",
                precision="fp32",
                file=object_ref(model),
                needs=RuntimeNeeds(opset=17, operators=("MatMul",)),
                golden=Golden(logits="logits/fp32", tolerance=0.01),
            ),
        ),
        companions=Companions(golden=object_ref(golden), parameters=object_ref(b"parameters")),
        card=object_ref(b"card"),
    )
    envelope = seal(encode(document), RELEASE_TYPE, key.signers())
    return Shipped(document, envelope, {object_ref(data).sha256: data for data in (model, golden, envelope)})


def wanted(shipped: Shipped, *, slot: str = SLOT, attempt: int = 1, health_window_s: float = 1.0) -> SlotAssignment:
    """What an assignment says of a slot."""
    variant = shipped.release.variants[0]
    timing = {"step_timeout_s": 30.0, "total_timeout_s": 300.0, "health_window_s": health_window_s}
    return SlotAssignment(
        slot=slot,
        model=MODEL,
        version=shipped.release.version,
        variant=variant.name,
        sha256=variant.file.sha256,
        release=object_ref(shipped.envelope).brief(),
        execution=Execution(id=f"{slot}-{shipped.release.version}", attempt=attempt, **timing),
    )


def assign(sequence: int, *slots: SlotAssignment, device: str = DEVICE) -> bytes:
    """A signed assignment."""
    assignment = Assignment(
        device=device,
        sequence=sequence,
        issued_ns=sequence,
        slots=slots,
        federated=FederatedPolicy(enabled=True),
    )
    return seal(encode(assignment), ASSIGNMENT_TYPE, DIRECTOR.signers())
