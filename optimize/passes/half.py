"""Weights in float16: half the download at the speed of fp32, where int8 costs too much accuracy."""

from __future__ import annotations

from onnx import ModelProto
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from optimize.compact import check, compact
from optimize.passes.candidate import Candidate, PassError, derived_name


def half(candidate: Candidate) -> Candidate:
    """`candidate` with float16 inside; x and logits stay float32. Raises PassError unless it is fp32."""
    if candidate.precision != "fp32":
        raise PassError(f"{candidate.name} is {candidate.precision} already; fp16 starts from fp32")
    source = ModelProto()
    source.CopyFrom(candidate.model)  # the converter works in place
    converted = OnnxModel(convert_float_to_float16(source, keep_io_types=True))
    converted.topological_sort()  # it appends the casts at the end
    return Candidate(derived_name(candidate.name, "fp16"), "fp16", check(compact(converted.model)))
