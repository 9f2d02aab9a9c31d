"""Deriving a version from what devices have learnt, without the work: the files and the report of `optimize.job`."""

import asyncio
from typing import Final

from cloud.ports import JobOrder
from optimize.spec import (
    RESULT_FILE,
    About,
    CandidateReport,
    Companions,
    DeriveSpec,
    FileReport,
    ParameterReport,
    Result,
)
from simulator.core.rng import Rng
from simulator.fakes.jobs import Directory, Emit
from simulator.fakes.learner import LEARNING
from simulator.surroundings import FEATURES
from simulator.version import CLASSES, NEEDS, VARIANT
from wire.codec import decode
from wire.release import object_ref

PARENT: Final = "fp32"
GOLDEN_BYTES: Final = 2_048


class Deriving:
    """The program `optimize.job`. `model_bytes`: length of what it makes."""

    def __init__(self, rng: Rng, model_bytes: int) -> None:
        self._rng = rng
        self._model_bytes = model_bytes

    async def run(self, order: JobOrder, directory: Directory, emit: Emit) -> int:
        """The `simulator.fakes.jobs.Program`; only derivations are played."""
        await asyncio.sleep(0)
        spec, rng = decode(order.spec, DeriveSpec), self._rng.child(order.job)
        parameters, graph, step = (
            directory[path.rpartition("/")[2]] for path in (spec.parameters, spec.eval_graph, spec.train_step)
        )
        made = {
            f"{PARENT}.onnx": rng.bytes(self._model_bytes),
            f"{VARIANT}.onnx": rng.bytes(self._model_bytes),
            "golden.safetensors": rng.bytes(GOLDEN_BYTES),
            "parameters.safetensors": parameters,
            "train_step.onnx": step,
            "eval.onnx": graph,
        }
        directory.update(made)
        directory[RESULT_FILE] = encode_result(spec, {name: _report(name, data) for name, data in made.items()})
        return 0


def encode_result(spec: DeriveSpec, files: dict[str, FileReport]) -> bytes:
    """`result.json`."""
    import msgspec

    result = Result(
        kind="derive",
        workload=spec.workload,
        about=About(title="What devices have learnt", intended_use="simulation", licence="none: random bytes"),
        seed=spec.seed,
        input_shape=(FEATURES,),
        classes=CLASSES,
        parent=PARENT,
        chosen=VARIANT,
        candidates=tuple(_candidate(name, files[f"{name}.onnx"]) for name in (PARENT, VARIANT)),
        companions=Companions(
            golden=files["golden.safetensors"],
            parameters=files["parameters.safetensors"],
            train_step=files["train_step.onnx"],
            eval=files["eval.onnx"],
        ),
        batch=LEARNING.batch,
        parameters=tuple(ParameterReport(name=one.name, shape=one.shape) for one in LEARNING.parameters),
        data_sha256="0" * 64,
        software={},
        wall_s=0.0,
    )
    return msgspec.json.encode(result)


def _candidate(name: str, file: FileReport) -> CandidateReport:
    return CandidateReport(
        name=name,
        precision=name,
        model=file,
        opset=NEEDS.opset,
        operators=NEEDS.operators,
        golden_logits=f"logits/{name}",
        golden_tolerance=0.05,
        accepted=True,
    )


def _report(name: str, data: bytes) -> FileReport:
    ref = object_ref(data)
    return FileReport(file=name, sha256=ref.sha256, bytes=ref.bytes)
