"""Static int8 in QDQ form: weights int8 per output channel, activations by calibration on inputs the hub holds.

The activations' type belongs to the target: unsigned for x86 (signed is 1.6 times slower there), signed for ARM.
Calibration only watches ranges; it changes no weight, so it is safe for a federated parent too.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from optimize.compact import check, compact
from optimize.passes.candidate import Candidate, PassError, derived_name

# What stays in float (standardising the input, the last mean) costs nothing and keeps its accuracy.
_QUANTIZED = ("Conv", "Gemm", "MatMul", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool")


class Activations(Enum):
    """Which int8 the activations are, by what the target runs fast."""

    UNSIGNED = "x86"
    SIGNED = "arm"

    @property
    def label(self) -> str:
        """What the pass calls its result."""
        return "int8" if self is Activations.UNSIGNED else "int8s"


@dataclass(frozen=True)
class Quantize:
    """The pass. `calibration` float32 [n, ...] are inputs whose activations set the ranges (minimum and maximum)."""

    calibration: npt.NDArray[np.float32]
    activations: Activations = Activations.UNSIGNED

    def __call__(self, candidate: Candidate) -> Candidate:
        """`candidate` in int8. Raises PassError when there is nothing in it to quantize."""
        if candidate.precision != "fp32":
            raise PassError(f"{candidate.name} is {candidate.precision} already; int8 starts from fp32")
        model = self._quantized(candidate.model)
        if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
            raise PassError(f"{candidate.name} has no operator that int8 would change ({', '.join(_QUANTIZED)})")
        return Candidate(derived_name(candidate.name, self.activations.label), "int8", model)

    def _quantized(self, model: onnx.ModelProto) -> onnx.ModelProto:
        activation = QuantType.QUInt8 if self.activations is Activations.UNSIGNED else QuantType.QInt8
        with tempfile.TemporaryDirectory(prefix="fleetloop-int8-") as folder, _root_logger_kept_quiet():
            source, prepared, target = (Path(folder, name) for name in ("source.onnx", "prepared.onnx", "int8.onnx"))
            onnx.save(model, source)
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                target,
                _Batches(self.calibration),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(_QUANTIZED),
                per_channel=True,
                activation_type=activation,
                weight_type=QuantType.QInt8,
            )
            return check(compact(onnx.load(target)))


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Calibration inputs in batches of 64, once."""

    def __init__(self, x: npt.NDArray[np.float32]) -> None:
        self._batches = iter([x[start : start + 64] for start in range(0, len(x), 64)])

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """The next feed, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {"x": batch}


@contextmanager
def _root_logger_kept_quiet() -> Iterator[None]:
    """The quantizer advises on the root logger to do what was just done; errors still pass."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
