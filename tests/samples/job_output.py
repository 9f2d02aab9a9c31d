"""What a finished training job leaves behind, made of a few bytes."""

import hashlib

from optimize.spec import About, CandidateReport, Companions, FileReport, Metrics, ParameterReport, Result
from wire.codec import encode


def optimizer_output() -> dict[str, bytes]:
    """Files and result.json of a finished training job."""
    files = {
        "fp32.onnx": b"parent" * 100,
        "int8.onnx": b"int8" * 40,
        "golden.safetensors": b"golden",
        "parameters.safetensors": b"parameters",
        "train_step.onnx": b"train step",
        "eval.onnx": b"eval",
    }

    def report(name: str) -> FileReport:
        return FileReport(file=name, sha256=hashlib.sha256(files[name]).hexdigest(), bytes=len(files[name]))

    def candidate(name: str, accepted: bool, *reasons: str) -> CandidateReport:
        metrics = Metrics(
            accuracy=0.9, agreement=1.0, p50_ms=0.1, p95_ms=0.2, latency_ratio=1.0, rss_mb=60.0, golden_worst=0.0
        )
        return CandidateReport(
            name=name,
            precision=name,
            model=report(f"{name}.onnx"),
            opset=20,
            operators=("Conv", "Gemm"),
            golden_logits=f"logits/{name}",
            golden_tolerance=0.05,
            metrics=metrics,
            accepted=accepted,
            reasons=reasons,
        )

    result = Result(
        kind="train",
        workload="watch",
        seed=0,
        input_shape=(6, 128),
        about=About(title="Toy", intended_use="Tests", licence="Apache-2.0"),
        classes=("a", "b"),
        parent="fp32",
        chosen="int8",
        candidates=(candidate("fp32", False, "bytes: not smaller"), candidate("int8", True)),
        companions=Companions(
            golden=report("golden.safetensors"),
            parameters=report("parameters.safetensors"),
            train_step=report("train_step.onnx"),
            eval=report("eval.onnx"),
        ),
        batch=16,
        parameters=(ParameterReport(name="w", shape=(2, 3)),),
        data_sha256="d" * 64,
        software={"torch": "2"},
        wall_s=1.0,
    )
    return files | {"result.json": encode(result)}
