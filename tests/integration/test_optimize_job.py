"""Jobs as the hub runs them: real processes on the real watch data, and what they leave behind."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

from optimize.export import bind
from optimize.origin import Origin, Recipe
from optimize.passes.candidate import PARENT, parent_candidate
from optimize.passes.half import half
from optimize.passes.quantize import Quantize
from optimize.pipeline import _attempt_all
from optimize.session import LoadError, Session
from optimize.spec import DeriveSpec, FileReport, JobSpec, Result, TrainSpec
from tests.samples.model_files import onnx_model
from wire.golden import check, parse

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Finished:
    """A job that has ended, with everything it said."""

    folder: Path
    code: int
    events: list[dict[str, object]]
    stderr: str

    @property
    def result(self) -> Result:
        """Its `result.json`."""
        return msgspec.json.decode((self.folder / "result.json").read_bytes(), type=Result)


def start(spec: JobSpec | bytes, folder: Path) -> subprocess.Popen[bytes]:
    """Launch a job as the hub does: specification in a file, a pipe on every stream."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "spec.json"
    path.write_bytes(spec if isinstance(spec, bytes) else msgspec.json.encode(spec))
    return subprocess.Popen(
        [sys.executable, "-m", "optimize.job", str(path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(folder / "stderr.log").open("wb"),
    )


def finish(spec: JobSpec | bytes, folder: Path) -> Finished:
    """Run a job to its end with standard input open."""
    with start(spec, folder) as process:
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
        code = process.wait(timeout=120)
    return Finished(folder, code, [json.loads(line) for line in lines], (folder / "stderr.log").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Version 1 of the watch model, as the demo makes it."""
    folder = tmp_path_factory.mktemp("train")
    return finish(TrainSpec(workload="watch", out=str(folder), seed=0), folder)


@pytest.fixture(scope="module")
def derived(trained: Finished, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A version from other parameters, as federated learning gives them."""
    folder = tmp_path_factory.mktemp("derive")
    parameters = load_file(trained.folder / "parameters.safetensors")
    save_file({name: value * np.float32(1.05) for name, value in parameters.items()}, folder / "learnt.safetensors")
    return finish(derive_spec(trained, folder), folder)


def derive_spec(trained: Finished, folder: Path) -> DeriveSpec:
    """The specification that goes with `learnt.safetensors` in `folder`."""
    return DeriveSpec(
        workload="watch",
        out=str(folder),
        parameters=str(folder / "learnt.safetensors"),
        eval_graph=str(trained.folder / "eval.onnx"),
        train_step=str(trained.folder / "train_step.onnx"),
    )


def test_the_shipped_variant_is_at_least_twice_smaller_within_a_hundredth(trained: Finished) -> None:
    """The reason to optimize at all: the choice must pay and must not cost accuracy."""
    assert trained.code == 0, trained.stderr
    result = trained.result
    chosen, parent = result.candidate(result.chosen), result.candidate(result.parent)
    assert chosen.model and chosen.metrics  # noqa: PT018
    assert parent.model and parent.metrics  # noqa: PT018
    assert chosen.accepted
    assert chosen.pareto
    assert chosen.model.bytes * 2 <= parent.model.bytes
    assert chosen.metrics.accuracy >= parent.metrics.accuracy - 0.01
    assert parent.metrics.accuracy > 0.9
    assert chosen.metrics.rss_mb < 120


def test_every_candidate_is_reported_with_what_a_release_needs(trained: Finished) -> None:
    """Files with digests, operators, opset, golden tensor and measurements; refused ones with their gate."""
    assert {one.name for one in trained.result.candidates} == {"fp32", "int8", "fp16", "pruned", "pruned-int8"}
    golden = parse((trained.folder / "golden.safetensors").read_bytes())
    for one in trained.result.candidates:
        assert one.accepted == (not one.reasons)
        assert one.model is not None
        assert one.metrics is not None
        assert one.opset == 20
        assert not [name for name in one.operators if "::" in name]
        assert golden.logits[one.golden_logits].shape == (32, 7)
        assert 0 < one.metrics.p50_ms <= one.metrics.p95_ms


def test_files_are_those_the_result_names(trained: Finished) -> None:
    """Sizes and digests are of the bytes on disk."""
    result = trained.result
    companions: list[FileReport] = list(msgspec.structs.asdict(result.companions).values())
    for file in [*companions, *(one.model for one in result.candidates if one.model)]:
        data = (trained.folder / file.file).read_bytes()
        assert (len(data), sha256(data).hexdigest()) == (file.bytes, file.sha256)
    parameters = load_file(trained.folder / result.companions.parameters.file)
    assert {name: value.shape for name, value in parameters.items()} == {p.name: p.shape for p in result.parameters}


def test_standard_output_is_progress_and_nothing_else(trained: Finished) -> None:
    """Every line was JSON to get here; epochs count up and the last event is `done`."""
    epochs = [event["epoch"] for event in trained.events if event["event"] == "epoch" and event["stage"] == "train"]
    assert epochs == list(range(1, len(epochs) + 1))
    assert trained.events[-1]["event"] == "done"
    assert "Traceback" not in trained.stderr


def test_a_variant_reproduces_its_golden_logits_and_a_damaged_one_does_not(trained: Finished) -> None:
    """Zero any weight of any variant, layer by layer: the check that devices run must see each one."""
    golden = parse((trained.folder / "golden.safetensors").read_bytes())
    for one in trained.result.candidates:
        assert one.model is not None
        data = (trained.folder / one.model.file).read_bytes()
        expected = golden.logits[one.golden_logits]
        assert check(expected, Session(data).predict(golden.inputs, batch=1), one.golden_tolerance).passed
        damaged = list(zeroed(data))
        assert len(damaged) >= 4
        for name, model in damaged:
            try:
                verdict = check(expected, Session(model).predict(golden.inputs), one.golden_tolerance)
            except LoadError:
                continue
            assert not verdict.passed, f"{one.name} without {name} still passes"


def zeroed(data: bytes) -> list[tuple[str, bytes]]:
    """The model once for each weight tensor of two or more axes, with that tensor all zero."""
    result = []
    for index, tensor in enumerate(onnx.load_from_string(data).graph.initializer):
        if len(tensor.dims) >= 2 and np.prod(tensor.dims) > 16:
            model = onnx.load_from_string(data)
            value = np.zeros_like(numpy_helper.to_array(tensor))
            model.graph.initializer[index].CopyFrom(numpy_helper.from_array(value, tensor.name))
            result.append((tensor.name, model.SerializeToString()))
    return result


def test_golden_inputs_are_half_precision_of_every_class(trained: Finished) -> None:
    """Thirty-two of them, on which the parent is clear: no tolerance could turn one answer into another."""
    golden = parse((trained.folder / "golden.safetensors").read_bytes())
    logits = golden.logits["logits/fp32"]
    assert golden.inputs.shape == (32, 6, 128)
    assert set(logits.argmax(axis=1)) == set(range(7))
    top = np.sort(logits, axis=1)
    assert ((top[:, -1] - top[:, -2]) > 0.1 * np.ptp(logits)).all()


def test_a_pass_that_breaks_on_a_network_stops_no_other() -> None:
    """Whatever the tool behind it raises: calibration of another shape here, a `view` of fixed width when pruned."""
    model = onnx.load_from_string(onnx_model())
    recipes = [Recipe("int8", PARENT, Quantize(np.zeros((4, 3), np.float32))), Recipe("fp16", PARENT, half)]
    origin = Origin(parent_candidate(model), model, model, batch=1, parameters={}, recipes=recipes)
    attempts = {one.name: one for one in _attempt_all(origin)}
    assert attempts["int8"].fault.startswith("pass: InvalidArgument: ")
    assert attempts["fp16"].session is not None


def test_deriving_keeps_the_learnt_parameters_and_tunes_nothing(trained: Finished, derived: Finished) -> None:
    """The parent computes with exactly the given parameters, and no epoch was run."""
    assert derived.code == 0, derived.stderr
    result = derived.result
    learnt = load_file(derived.folder / "learnt.safetensors")
    expected = Session(bind(onnx.load(trained.folder / "eval.onnx"), learnt).SerializeToString())
    x = np.random.default_rng(0).normal(size=(5, 6, 128)).astype(np.float32)
    parent = Session((derived.folder / "fp32.onnx").read_bytes())
    assert np.array_equal(parent(x), expected(x))
    assert {one.name for one in result.candidates} == {"fp32", "int8", "fp16"}
    assert not [event for event in derived.events if event["event"] == "epoch"]
    assert result.companions.train_step.sha256 == trained.result.companions.train_step.sha256
    assert result.batch == trained.result.batch == 16


def test_a_derived_variant_is_judged_by_its_agreement_with_the_parent(derived: Finished) -> None:
    """The hub's labels say nothing of left arms; int8 must name the same classes as the parent."""
    int8 = derived.result.candidate("int8")
    assert int8.accepted, int8.reasons
    assert int8.metrics is not None
    assert int8.metrics.agreement >= 0.97


def poisoned(parameters: dict[str, np.ndarray]) -> None:
    """One value that is not a number."""
    parameters["head.bias"][0] = np.nan


def misshapen(parameters: dict[str, np.ndarray]) -> None:
    """One class too many."""
    parameters["head.bias"] = np.zeros(8, dtype=np.float32)


def incomplete(parameters: dict[str, np.ndarray]) -> None:
    """A layer is missing."""
    del parameters["head.bias"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (poisoned, "head.bias has values that are not finite"),
        (misshapen, "float32 [7]"),
        (incomplete, "lack head.bias"),
    ],
)
def test_bad_parameters_end_the_job_with_the_reason(
    trained: Finished, tmp_path: Path, damage: Callable[[dict[str, np.ndarray]], None], said: str
) -> None:
    """No result is left that anyone could take for one."""
    parameters = load_file(trained.folder / "parameters.safetensors")
    damage(parameters)
    save_file(parameters, tmp_path / "learnt.safetensors")
    job = finish(derive_spec(trained, tmp_path), tmp_path)
    assert job.code == 1
    assert job.events[-1]["event"] == "error"
    assert said in str(job.events[-1]["message"])
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    "spec", [b"{", b'{"kind":"train","workload":"watch","out":"x","surprise":1}', b'{"kind":"bake"}']
)
def test_an_unusable_specification_is_refused(spec: bytes, tmp_path: Path) -> None:
    """With its own exit code, and the reason as an event."""
    job = finish(spec, tmp_path)
    assert job.code == 2
    assert [event["event"] for event in job.events] == ["error"]


def test_a_job_dies_with_its_launcher(tmp_path: Path) -> None:
    """Closing standard input in the middle of training ends it at once, without a result."""
    with start(TrainSpec(workload="watch", out=str(tmp_path)), tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        process.stdin.close()
        assert process.wait(timeout=30) == 3
    assert not (tmp_path / "result.json").exists()
