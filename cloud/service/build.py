"""Turns what an optimizer job left behind into a version: `result.json` becomes release, model card and gate report."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from cloud.ports import JobError
from cloud.service.registry import Numbers
from optimize.spec import CandidateReport, FileReport, Result
from wire.release import (
    Candidate,
    Companions,
    Golden,
    Learning,
    Lineage,
    ModelCard,
    ObjectRef,
    Release,
    RuntimeNeeds,
    Tensor,
    Variant,
    object_ref,
)

ENGINE = "onnxruntime"
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a version comes from, beyond what the job knows."""

    model: str
    job: str
    parent_version: int | None = None
    federated_run: str | None = None
    verdict: Mapping[str, Any] | None = None
    """cloud.core.federated_gate.Verdict, when devices judged it."""


def files(result: Result) -> tuple[FileReport, ...]:
    """The files of the job that become objects: the parent, what passed its gates, and the companions."""
    kept = [result.candidate(result.parent), *shipped(result)]
    companions = result.companions
    models = [report.model for report in kept if report.model is not None]
    return (*models, companions.golden, companions.parameters, companions.train_step, companions.eval)


def shipped(result: Result) -> tuple[CandidateReport, ...]:
    """Candidates that passed every gate, the chosen one first. Raises JobError when the chosen one did not."""
    chosen = result.candidate(result.chosen)
    if not chosen.accepted or chosen.model is None:
        raise JobError(f"the job chose {chosen.name!r}, which its gates refused: {'; '.join(chosen.reasons)}")
    others = (one for one in result.candidates if one.accepted and one.model is not None and one.name != chosen.name)
    return (chosen, *others)


def check(report: FileReport, data: bytes) -> ObjectRef:
    """The reference of a job's file. Raises JobError when it is not the file that the result names."""
    ref = object_ref(data)
    if ref.sha256 != report.sha256:
        raise JobError(f"{report.file} is not the file that the job's result names: its digest differs")
    return ref


def card(result: Result, origin: Origin, numbers: Numbers) -> ModelCard:
    """The model card, with every candidate and why the refused ones were refused."""
    parent = result.candidate(result.parent)
    kept = {one.name for one in shipped(result)}
    return ModelCard(
        model=origin.model,
        version=numbers.version,
        title=result.about.title,
        intended_use=result.about.intended_use,
        licence=result.about.licence,
        lineage=Lineage(
            workload=result.workload,
            data_sha256=result.data_sha256,
            job=origin.job,
            parent_version=origin.parent_version,
            federated_run=origin.federated_run,
            seed=result.seed,
        ),
        metrics=_metrics(parent),
        candidates=tuple(
            Candidate(
                name=one.name,
                bytes=one.model.bytes if one.model is not None else 0,
                kept=one.name in kept,
                reasons=one.reasons,
                metrics=_metrics(one),
            )
            for one in result.candidates
        ),
        software=result.software,
    )


def release(
    result: Result, origin: Origin, numbers: Numbers, refs: Mapping[str, ObjectRef], card_ref: ObjectRef
) -> Release:
    """The document that the publisher signs. `refs`: file name -> object."""
    companions, parent = result.companions, result.candidate(result.parent)
    assert parent.model is not None
    return Release(
        model=origin.model,
        version=numbers.version,
        counter=numbers.counter,
        input=Tensor(name="x", shape=(-1, *result.input_shape)),
        classes=result.classes,
        parent=refs[parent.model.file],
        variants=tuple(_variant(one, refs, refs[companions.golden.file]) for one in shipped(result)),
        companions=Companions(
            golden=refs[companions.golden.file],
            parameters=refs[companions.parameters.file],
            train_step=refs[companions.train_step.file],
            eval=refs[companions.eval.file],
        ),
        learning=Learning(
            batch=result.batch,
            parameters=tuple(Tensor(name=one.name, shape=one.shape) for one in result.parameters),
        ),
        card=card_ref,
    )


def gate_report(result: Result, origin: Origin) -> dict[str, Any]:
    """What the publisher judges by: every candidate as measured, and the devices' own verdict where there is one."""
    report: dict[str, Any] = {
        "kind": result.kind,
        "parent": result.parent,
        "chosen": result.chosen,
        "candidates": msgspec.to_builtins(result.candidates),
        "federated": dict(origin.verdict) if origin.verdict is not None else None,
    }
    return report


def _variant(report: CandidateReport, refs: Mapping[str, ObjectRef], golden: ObjectRef) -> Variant:
    """What it needs of RAM is what a process with nothing but the model took when it was measured."""
    assert report.model is not None
    needs = RuntimeNeeds(
        engine=ENGINE,
        opset=report.opset,
        operators=report.operators,
        ram_bytes=int(report.metrics.rss_mb * MIB) if report.metrics is not None else 0,
        flash_bytes=report.model.bytes + golden.bytes,
    )
    return Variant(
        name=report.name,
        precision=report.precision,
        file=refs[report.model.file],
        needs=needs,
        golden=Golden(logits=report.golden_logits, tolerance=report.golden_tolerance),
        metrics=_metrics(report),
    )


def _metrics(report: CandidateReport) -> dict[str, float]:
    return dict(msgspec.to_builtins(report.metrics)) if report.metrics is not None else {}
