"""Small, consistent documents of one version, for tests: a release, its model card, and the gate report behind it."""

from typing import Any

from wire.codec import encode
from wire.release import (
    Candidate,
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

MODEL = "watch"
PARENT, SMALL = b"p" * 1000, b"s" * 400
METRICS = {
    "fp32": {"accuracy": 0.98, "agreement": 1.0, "p50_ms": 0.2},
    "int8": {"accuracy": 0.975, "agreement": 0.99, "p50_ms": 0.1},
}


def variant(name: str = "int8", data: bytes = SMALL, **metrics: float) -> Variant:
    """A variant with the figures of METRICS, changed by `metrics`."""
    return Variant(
        name=name,
        precision=name,
        file=object_ref(data),
        needs=RuntimeNeeds(opset=20, operators=("Conv",)),
        golden=Golden(logits=f"logits/{name}", tolerance=0.05),
        metrics={**METRICS[name], **metrics},
    )


def card(version: int = 1, federated_run: str | None = None) -> ModelCard:
    """A card with a parent that was refused for its size and an int8 candidate that was kept."""
    return ModelCard(
        model=MODEL,
        version=version,
        title=f"watch version {version}",
        intended_use="tests",
        licence="none",
        lineage=Lineage(
            workload="watch",
            data_sha256="d" * 64,
            job=f"job-{version}",
            parent_version=version - 1 or None,
            federated_run=federated_run,
        ),
        metrics=METRICS["fp32"],
        candidates=(
            Candidate(name="fp32", bytes=len(PARENT), kept=False, reasons=("smaller: no",), metrics=METRICS["fp32"]),
            Candidate(name="int8", bytes=len(SMALL), kept=True, metrics=METRICS["int8"]),
        ),
        software={"onnxruntime": "1"},
    )


def release(version: int = 1, counter: int = 1, variants: tuple[Variant, ...] | None = None) -> Release:
    """A release that agrees with `gate_report`."""
    return Release(
        model=MODEL,
        version=version,
        counter=counter,
        input=Tensor(name="x", shape=(-1, 6, 128)),
        classes=("a", "b"),
        parent=object_ref(PARENT),
        variants=variants or (variant(),),
        companions=Companions(golden=object_ref(b"golden"), parameters=object_ref(b"parameters")),
        card=object_ref(encode(card(version))),
    )


def gate_report(**changes: Any) -> dict[str, Any]:
    """What the hub reports with a signing request, as it appears in JSON."""
    candidates = [
        _candidate("fp32", PARENT, accepted=True),
        _candidate("int8", SMALL, accepted=True),
    ]
    base = {"kind": "train", "parent": "fp32", "chosen": "int8", "candidates": candidates, "federated": None}
    return {**base, **changes}


def _candidate(name: str, data: bytes, *, accepted: bool) -> dict[str, Any]:
    ref = object_ref(data)
    model = {"file": f"{name}.onnx", "sha256": ref.sha256, "bytes": ref.bytes}
    return {"name": name, "accepted": accepted, "reasons": [], "model": model, "metrics": METRICS[name]}
