"""Versions of a model as the cloud would publish them, small, and the signed assignments that name them."""

from dataclasses import dataclass
from functools import cache

from bench.crash_states.repository import DIRECTOR
from simulator.core.rng import Rng
from wire.adapters.zstd_delta import pack
from wire.assignment import Assignment, Execution, FederatedPolicy, SlotAssignment
from wire.codec import encode
from wire.dsse import ASSIGNMENT_TYPE, seal
from wire.release import Companions, Golden, ObjectRef, Release, RuntimeNeeds, Tensor, Variant, object_ref

DEVICE, MODEL, SLOT = "p01-left", "watch", "main"
FEATURES = 4
"""Values of one input."""
SMALL_BYTES = 130_000
"""Three chunks."""
LARGE_BYTES = 1_100_000
"""More than one group of chunks that is made durable at once."""


@dataclass(frozen=True)
class Shipped:
    """A release with its files by digest, the document of the release among them."""

    release: Release
    files: dict[str, bytes]

    @property
    def model(self) -> ObjectRef:
        """The file that a device runs."""
        return self.release.variants[0].file

    @property
    def document(self) -> bytes:
        """The release document."""
        return encode(self.release)

    @property
    def ref(self) -> ObjectRef:
        """The document as an assignment names it."""
        return object_ref(self.document).brief()


@cache
def ship(version: int, size: int = SMALL_BYTES) -> Shipped:
    """Version `version` with a model of `size` random bytes."""
    rng = Rng(version, "model")
    return release(version, rng.bytes(size), rng.bytes(1_000))


def release(version: int, model: bytes, golden: bytes) -> Shipped:
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
    return Shipped(document, {object_ref(data).sha256: data for data in (model, golden, encode(document))})


def revise(version: int, base: Shipped) -> tuple[Shipped, bytes]:
    """Version `version`, of which the model differs little from that of `base`, and the delta between them."""
    rng = Rng(version, "revision")
    before = base.files[base.model.sha256]
    after = before[:2_000] + rng.bytes(2_000) + before[4_000:]
    return release(version, after, rng.bytes(1_000)), pack(before, after)


def wanted(shipped: Shipped, *, slot: str = SLOT, attempt: int = 1, health_window_s: float = 1.0) -> SlotAssignment:
    """What an assignment says of a slot."""
    variant = shipped.release.variants[0]
    execution = Execution(
        id=f"{slot}-{shipped.release.version}",
        attempt=attempt,
        step_timeout_s=30.0,
        total_timeout_s=300.0,
        health_window_s=health_window_s,
    )
    return SlotAssignment(
        slot=slot,
        model=MODEL,
        version=shipped.release.version,
        variant=variant.name,
        sha256=variant.file.sha256,
        release=shipped.ref,
        execution=execution,
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
