"""A model version for simulated devices: real release and card documents around a few kilobytes of random bytes."""

from dataclasses import dataclass, replace

from cloud.service.registry import Built, Numbers
from simulator.core.rng import Rng
from simulator.fakes.learner import LEARNING
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
    train_step: bytes = b""
    eval: bytes = b""
    """Both graphs are there when devices can learn with it."""

    def all(self) -> tuple[bytes, ...]:
        """Every file."""
        graphs = (self.train_step, self.eval) if self.train_step else ()
        return (self.parent, self.model, self.golden, self.parameters, *graphs)


def random_files(rng: Rng, model_bytes: int) -> Files:
    """Files of a version whose deployable model has `model_bytes` bytes."""
    return Files(*(rng.bytes(size) for size in (model_bytes, model_bytes, 2_048, 1_024)))


def learning_files(rng: Rng, model_bytes: int, parameters: bytes) -> Files:
    """Files of a version that devices can learn with, from these parameters on. The graphs stand for the problem that
    is learnt in `simulator.fakes.learner`."""
    files = random_files(rng, model_bytes)
    return replace(files, parameters=parameters, train_step=b"simulated train step", eval=b"simulated eval")


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
        companions=_companions(files),
        learning=LEARNING if files.train_step else None,
        card=object_ref(encode(card)),
    )
    return Built(release, card, VARIANT, {}, request)


def _companions(files: Files) -> Companions:
    learns = bool(files.train_step)
    return Companions(
        golden=object_ref(files.golden),
        parameters=object_ref(files.parameters),
        train_step=object_ref(files.train_step) if learns else None,
        eval=object_ref(files.eval) if learns else None,
    )
