"""Small releases of one model, and the assignments that name them."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import msgspec

from simulator.core.rng import Rng
from wire.assignment import Execution, SlotAssignment
from wire.codec import encode
from wire.release import Companions, Golden, ObjectRef, Release, RuntimeNeeds, Tensor, Variant, object_ref

MODEL: Final = "watch"
SLOT: Final = "main"
MODEL_BYTES: Final = 130_000
"""Three chunks."""


@dataclass(frozen=True)
class Shipped:
    """A release with its files by digest."""

    release: Release
    files: dict[str, bytes]

    @property
    def document(self) -> bytes:
        """The release document."""
        return encode(self.release)

    @property
    def ref(self) -> ObjectRef:
        """The document as an assignment names it."""
        return object_ref(self.document).brief()

    @property
    def model(self) -> ObjectRef:
        """The file that a device runs."""
        return self.release.variants[0].file


@cache
def ship(version: int, size: int = MODEL_BYTES) -> Shipped:
    """Version `version` with a model of `size` random bytes."""
    rng = Rng(version, "model")
    return shipping(version, rng.bytes(size), rng.bytes(1_000))


def shipping(version: int, model: bytes, golden: bytes, **changes: Any) -> Shipped:
    """A release of these files; `changes` alter it."""
    release = Release(
        model=MODEL,
        version=version,
        counter=version,
        input=Tensor(name="x", shape=(-1, 4)),
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
    release = msgspec.structs.replace(release, **changes)
    return Shipped(release, {object_ref(data).sha256: data for data in (model, golden, encode(release))})


def wanted(shipped: Shipped, name: str, **changes: Any) -> SlotAssignment:
    """What an assignment says of the slot; `name` is the execution's."""
    variant = shipped.release.variants[0]
    slot = SlotAssignment(
        slot=SLOT,
        model=MODEL,
        version=shipped.release.version,
        variant=variant.name,
        sha256=variant.file.sha256,
        release=shipped.ref,
        execution=Execution(id=name, step_timeout_s=30.0, total_timeout_s=600.0, health_window_s=1.0),
    )
    return msgspec.structs.replace(slot, **changes)
