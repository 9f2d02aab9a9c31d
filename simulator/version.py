"""A model version for simulated devices: real release and card documents around a few kilobytes of random bytes."""

from dataclasses import dataclass

from cloud.service.registry import Built, Numbers
from simulator.core.rng import Rng
from wire.codec import encode
from wire.release import (
    Companions,
    Golden,
    Lineage,
    ModelCard,
    Release,
    RuntimeNeeds,
    Tensor,
    Variant,
    object_ref,
)

VARIANT = "int8"
NEEDS = RuntimeNeeds(opset=17, operators=("Conv", "Gemm"))
CLASSES = ("walk", "run", "sit", "stand")


@dataclass(frozen=True, slots=True)
class Files:
    """The contents of one version."""

    parent: bytes
    model: bytes
    golden: bytes
    parameters: bytes

    def all(self) -> tuple[bytes, ...]:
        """Every file."""
        return (self.parent, self.model, self.golden, self.parameters)


def random_files(rng: Rng, model_bytes: int) -> Files:
    """Files of a version whose deployable model has `model_bytes` bytes."""
    return Files(*(rng.bytes(size) for size in (model_bytes, model_bytes, 2_048, 1_024)))


def build(model: str, numbers: Numbers, files: Files, request: str, needs: RuntimeNeeds = NEEDS) -> Built:
    """The documents that the hub enters, with the id of their signing request."""
    digest = object_ref(files.parent).sha256
    lineage = Lineage(workload="simulated", data_sha256=digest, job=request)
    card = ModelCard(
        model=model,
        version=numbers.version,
        title=f"{model} version {numbers.version}",
        intended_use="simulation",
        licence="none: random bytes",
        lineage=lineage,
        metrics={},
        candidates=(),
        software={},
    )
    variant = Variant(
        name=VARIANT,
        precision="int8",
        file=object_ref(files.model),
        needs=needs,
        golden=Golden(logits=f"logits/{VARIANT}", tolerance=0.05),
    )
    release = Release(
        model=model,
        version=numbers.version,
        counter=numbers.counter,
        input=Tensor(name="x", shape=(-1, 8)),
        classes=CLASSES,
        parent=object_ref(files.parent),
        variants=(variant,),
        companions=Companions(golden=object_ref(files.golden), parameters=object_ref(files.parameters)),
        card=object_ref(encode(card)),
    )
    return Built(release, card, VARIANT, {}, request)
