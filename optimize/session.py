"""Opening a model the way a device does: stock onnxruntime, CPU, one thread."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

Floats = npt.NDArray[np.float32]


class LoadError(Exception):
    """onnxruntime refuses the model; the message is its own."""


class Session:
    """A model with input `x` [n, ...] and output `logits` [n, classes]."""

    def __init__(self, model: bytes) -> None:
        """Load `model`. Raises LoadError when onnxruntime cannot, or when its border is not x -> logits."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises half a dozen types with no common base
            raise LoadError(str(error)) from error
        inputs = [value.name for value in self._session.get_inputs()]
        outputs = [value.name for value in self._session.get_outputs()]
        if (inputs, outputs) != (["x"], ["logits"]):
            raise LoadError(f"a deployed model maps x to logits, this one maps {inputs} to {outputs}")

    def __call__(self, x: Floats) -> Floats:
        """Logits float32 [n, classes] for inputs float32 [n, ...]."""
        (logits,) = self._session.run(["logits"], {"x": x})
        result: Floats = logits
        return result

    def predict(self, x: Floats, batch: int = 64) -> Floats:
        """The same in batches, which bounds the memory it takes."""
        return np.concatenate([self(x[start : start + batch]) for start in range(0, len(x), batch)])
