"""A job from its specification to `result.json`: a parent, its candidates, golden vectors, measurements, gates, choice.

One candidate that fails, in a pass or at a gate, is reported and never stops the others.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec
from safetensors.numpy import save, save_file

from optimize.compact import operators, opset
from optimize.export import parameter_shapes
from optimize.gates import Measurement, choose, judge, judge_alone, pareto
from optimize.golden import TOLERANCE, choose_inputs, golden_file
from optimize.measure import Request, measure
from optimize.origin import Origin, Recipe, Report
from optimize.passes.candidate import PARENT, Candidate, PassError
from optimize.session import LoadError, Session
from optimize.spec import (
    RESULT_FILE,
    About,
    Budgets,
    CandidateReport,
    Companions,
    FileReport,
    JobSpec,
    ParameterReport,
    Result,
    TrainSpec,
)
from wire.golden import logits_name
from workloads.base import HubData, Workload
from workloads.registry import load_workload

_EXAMPLES = "holdout.safetensors"
_MAX_FAULT = 500
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Attempt:
    """A recipe carried out: the candidate with its session, or the fault that kept it from coming about."""

    name: str
    candidate: Candidate | None = None
    session: Session | None = None
    fault: str = ""


def run(spec: JobSpec, report: Report) -> Result:
    """Carry out `spec`: every file, and last `result.json`, goes to its `out` directory."""
    begin = time.monotonic()
    workload = load_workload(spec.workload)
    data = workload.hub_data()
    folder = Path(spec.out)
    folder.mkdir(parents=True, exist_ok=True)
    origin = _origin(spec, workload, data, report)
    attempts = tuple(_attempt_all(origin))
    companions = _write_companions(folder, origin, attempts, data)
    reports = _judge_all(folder, attempts, spec.budgets, report)
    result = Result(
        kind="train" if isinstance(spec, TrainSpec) else "derive",
        workload=spec.workload,
        about=About(**asdict(workload.about)),
        seed=spec.seed,
        input_shape=workload.input_shape,
        classes=workload.classes,
        parent=PARENT,
        chosen=choose(reports),
        candidates=reports,
        companions=companions,
        batch=origin.batch,
        parameters=tuple(
            ParameterReport(name=name, shape=shape) for name, shape in parameter_shapes(origin.eval_graph).items()
        ),
        data_sha256=data.digest,
        software={name: version(name) for name in ("torch", "onnx", "onnxruntime", "numpy")},
        wall_s=round(time.monotonic() - begin, 3),
    )
    _write(folder, RESULT_FILE, msgspec.json.format(msgspec.json.encode(result)))
    report("done", chosen=result.chosen, wall_s=result.wall_s)
    return result


def _origin(spec: JobSpec, workload: Workload, data: HubData, report: Report) -> Origin:
    # Each kind imports what it needs: deriving must not pay for torch.
    if isinstance(spec, TrainSpec):
        from optimize.trained import train

        return train(spec, workload, data, report)
    from optimize.derived import derive

    return derive(spec, data)


def _attempt_all(origin: Origin) -> Iterator[_Attempt]:
    made = {PARENT: origin.parent}
    yield _open(origin.parent)
    for recipe in origin.recipes:
        try:
            candidate = _apply(recipe, made)
        except PassError as error:
            yield _Attempt(recipe.name, fault=f"pass: {error}")
            continue
        except Exception as error:  # nobody knows what the tools behind a pass raise for a user's own network
            _log.exception("no %s candidate", recipe.name)
            yield _Attempt(recipe.name, fault=f"pass: {type(error).__name__}: {error}"[:_MAX_FAULT])
            continue
        made[recipe.name] = candidate
        yield _open(candidate)


def _apply(recipe: Recipe, made: dict[str, Candidate]) -> Candidate:
    if recipe.base not in made:
        raise PassError(f"there is no {recipe.base} candidate to start from")
    return recipe.change(made[recipe.base])


def _open(candidate: Candidate) -> _Attempt:
    try:
        return _Attempt(candidate.name, candidate, Session(candidate.file()))
    except LoadError as error:
        return _Attempt(candidate.name, candidate, fault=f"loads: {error}")


def _write_companions(folder: Path, origin: Origin, attempts: tuple[_Attempt, ...], data: HubData) -> Companions:
    sessions = {attempt.name: attempt.session for attempt in attempts if attempt.session is not None}
    if PARENT not in sessions:
        raise LoadError(f"the parent itself does not load: {attempts[0].fault}")
    inputs = choose_inputs(sessions[PARENT], data.train)
    save_file({"x": data.holdout.x, "y": data.holdout.y}, folder / _EXAMPLES)
    return Companions(
        golden=_write(folder, "golden.safetensors", golden_file(inputs, sessions)),
        parameters=_write(folder, "parameters.safetensors", save(dict(origin.parameters))),
        train_step=_write(folder, "train_step.onnx", origin.train_step.SerializeToString(deterministic=True)),
        eval=_write(folder, "eval.onnx", origin.eval_graph.SerializeToString(deterministic=True)),
    )


def _judge_all(
    folder: Path, attempts: tuple[_Attempt, ...], budgets: Budgets, report: Report
) -> tuple[CandidateReport, ...]:
    reports: list[CandidateReport] = []
    parent: Measurement | None = None
    for attempt in attempts:
        if attempt.candidate is None or attempt.session is None:
            judged = CandidateReport(name=attempt.name, precision="", reasons=(attempt.fault,))
        else:
            described = _describe(folder, attempt.candidate)
            measured = _measure(folder, described)
            reasons = judge_alone(measured) if parent is None else judge(measured, parent, budgets)
            parent = parent or measured
            judged = msgspec.structs.replace(described, metrics=measured.metrics, reasons=reasons, accepted=not reasons)
        reports.append(judged)
        report("candidate", **msgspec.to_builtins(judged))
    front = pareto(tuple(reports))
    return tuple(msgspec.structs.replace(one, pareto=one.name in front) for one in reports)


def _describe(folder: Path, candidate: Candidate) -> CandidateReport:
    return CandidateReport(
        name=candidate.name,
        precision=candidate.precision,
        model=_write(folder, f"{candidate.name}.onnx", candidate.file()),
        opset=opset(candidate.model),
        operators=operators(candidate.model),
        golden_logits=logits_name(candidate.name),
        golden_tolerance=TOLERANCE[candidate.precision],
    )


def _measure(folder: Path, described: CandidateReport) -> Measurement:
    assert described.model is not None
    return measure(
        Request(
            model=str(folder / described.model.file),
            parent=str(folder / f"{PARENT}.onnx"),
            golden=str(folder / "golden.safetensors"),
            golden_logits=described.golden_logits,
            golden_tolerance=described.golden_tolerance,
            examples=str(folder / _EXAMPLES),
        )
    )


def _write(folder: Path, name: str, data: bytes) -> FileReport:
    (folder / name).write_bytes(data)
    return FileReport(file=name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
