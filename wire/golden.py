"""Golden vectors: inputs with the logits each variant must give, and the check that hub and device both run.

A runtime proves itself on the device that will use it: same class on every input, and no logit off by more than the
variant's tolerance, which is a share of the range of its expected logits. Inputs travel as float16 and the logits were
computed on exactly those values. Needs numpy, which a device without a model does not: import this module lazily.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load

from wire.errors import MalformedError, OversizeError

MAX_GOLDEN_BYTES = 4 * 1024 * 1024
INPUTS = "inputs"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class GoldenVectors:
    """`inputs` float32 [n, ...] and, by tensor name such as `logits/int8`, the expected logits float32 [n, classes]."""

    inputs: Floats
    logits: dict[str, Floats]


@dataclass(frozen=True)
class GoldenVerdict:
    """`worst` is the largest |delta logit| as a share of the expected range. `reason` is empty when it passed."""

    passed: bool
    worst: float
    reason: str = ""


def logits_name(variant: str) -> str:
    """The name of the tensor that holds the expected logits of `variant`."""
    return f"logits/{variant}"


def parse(data: bytes) -> GoldenVectors:
    """Read a golden file (safetensors).

    Raises:
        OversizeError: the file is larger than MAX_GOLDEN_BYTES.
        MalformedError: it is not safetensors, or its tensors are not golden vectors; says which.
    """
    if len(data) > MAX_GOLDEN_BYTES:
        raise OversizeError(f"golden vectors: {len(data)} bytes, at most {MAX_GOLDEN_BYTES} allowed")
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise MalformedError(f"golden vectors: {error}") from error
    inputs = tensors.pop(INPUTS, None)
    if inputs is None or inputs.dtype != np.float16 or inputs.ndim < 2 or len(inputs) == 0:
        raise MalformedError("golden vectors: needs a tensor 'inputs' float16 [n, ...]")
    for name, logits in tensors.items():
        shaped = logits.ndim == 2 and len(logits) == len(inputs) and logits.shape[1] > 0
        if not (name.startswith(logits_name("")) and logits.dtype == np.float32 and shaped):
            raise MalformedError(f"golden vectors: {name!r} is not 'logits/<variant>' float32 [{len(inputs)}, classes]")
    for name, tensor in {INPUTS: inputs, **tensors}.items():
        if not np.isfinite(tensor).all():  # comparisons with NaN would pass any model
            raise MalformedError(f"golden vectors: {name!r} holds NaN or infinity")
    return GoldenVectors(inputs.astype(np.float32), tensors)


def check(expected: Floats, actual: Floats, tolerance: float) -> GoldenVerdict:
    """Compare logits [n, classes] a runtime gave with those expected of it. Never raises on bad `actual` values."""
    if actual.shape != expected.shape:
        return GoldenVerdict(False, float("inf"), f"logits of shape {actual.shape}, expected {expected.shape}")
    if not np.isfinite(actual).all():
        return GoldenVerdict(False, float("inf"), "logits that are not finite")
    spread = float(expected.max() - expected.min())
    worst = float(np.abs(actual - expected).max()) / max(spread, float(np.finfo(np.float32).tiny))
    wrong = int((actual.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if wrong:
        return GoldenVerdict(False, worst, f"{wrong} of {len(expected)} golden inputs get another class")
    if worst > tolerance:
        return GoldenVerdict(False, worst, f"a logit is off by {worst:.3g} of the range; {tolerance:.3g} is allowed")
    return GoldenVerdict(True, worst)
