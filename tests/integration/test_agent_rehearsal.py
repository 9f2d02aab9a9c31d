"""Graphs that learn, tried in the installer child: the daemon outlives each of them, and a round goes on without it."""

import asyncio
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from edge_agent.adapters.child_installer import ChildInstaller
from edge_agent.ports import RehearsalRequest
from federated.device.ports import HostError
from federated.spec import Tolerances
from simulator.core.clock import VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.rng import Rng
from simulator.fakes.runtime import Manner, MemoryInstaller
from simulator.memory_disk import MemoryDisk
from tests.servers.plain_broker import BrokerProcess
from tests.worlds.agent_world import Air, AirLink, Gear, assign, committed, device, ship, wanted
from tests.worlds.federated_world import CLASSES, FEATURES, LEARNING, AggregatorProcess, fleet, write_graphs
from wire.release import Learning

Harm = Callable[[ModelProto], None]


def request(**changes: object) -> RehearsalRequest:
    """What the child is asked about the toy graphs."""
    fields: dict[str, object] = {
        "learning": LEARNING,
        "input": (-1, FEATURES),
        "classes": CLASSES,
        "time_limit_s": 20.0,
    }
    return RehearsalRequest("train_step.onnx", "eval.onnx", **{**fields, **changes})  # type: ignore[arg-type]


def rehearse(folder: Path, asked: RehearsalRequest, command: tuple[str, ...] = ()) -> str:
    """The child's reason."""
    locate = lambda path: str(folder / path)  # noqa: E731
    installer = ChildInstaller(locate, command) if command else ChildInstaller(locate)
    return asyncio.run(installer.rehearse(asked))


def harmed(path: Path, harm: Harm) -> None:
    """Do this to the graph in the file."""
    model = onnx.load(path)
    harm(model)
    path.write_bytes(model.SerializeToString())


def divide(model: ModelProto) -> None:
    """The smallest whole number by -1, which the processor answers with a signal. `losses` hang on it."""
    for name, value in (("least", -(2**63)), ("minus", -1)):
        model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], [value]))
    _added_to_losses(model, helper.make_node("Div", ["least", "minus"], ["whole"]))


def hoard(model: ModelProto) -> None:
    """Ask for more memory than the child may have."""
    model.graph.initializer.append(helper.make_tensor("many", TensorProto.INT64, [1], [2**30]))
    zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
    model.graph.node.append(helper.make_node("ConstantOfShape", ["many"], ["heap"], value=zero))
    _added_to_losses(model, helper.make_node("ReduceSum", ["heap"], ["whole"], keepdims=1))


def go_on_for_ever(model: ModelProto) -> None:
    """A loop without an end that begins with the number of windows."""
    body = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_on"]) for name in ("going", "carried")],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.INT64, None),
        ],
        [
            helper.make_tensor_value_info("going_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried_on", TensorProto.INT64, None),
        ],
    )
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    model.graph.node.append(helper.make_node("Shape", ["Y"], ["windows"]))
    _added_to_losses(model, helper.make_node("Loop", ["", "yes", "windows"], ["whole"], body=body))


def lean_on_another_file(model: ModelProto) -> None:
    """Part of its numbers lies elsewhere."""
    tensor = helper.make_tensor("elsewhere", TensorProto.FLOAT, [1], [0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.initializer.append(tensor)


def explode(model: ModelProto) -> None:
    """A loss that is not a number."""
    model.graph.initializer.append(helper.make_tensor("nan", TensorProto.FLOAT, [1], [float("nan")]))
    _added_to_losses(model, helper.make_node("Identity", ["nan"], ["whole"]), cast=False)


def forget_the_rate(model: ModelProto) -> None:
    """An input has another name than the contract gives it."""
    for one in [*model.graph.input, *model.graph.node]:
        if isinstance(one, onnx.NodeProto):
            harm = one.attribute[0].g if one.op_type == "Scan" else None
            for inner in harm.node if harm is not None else ():
                inner.input[:] = ["pace" if name == "lr" else name for name in inner.input]
        elif one.name == "lr":
            one.name = "pace"


def _added_to_losses(model: ModelProto, node: onnx.NodeProto, *, cast: bool = True) -> None:
    scan = next(one for one in model.graph.node if one.op_type == "Scan")
    scan.output[-1] = "losses_before"
    number = "whole"
    model.graph.node.append(node)
    if cast:
        number = "number"
        model.graph.node.append(helper.make_node("Cast", ["whole"], [number], to=TensorProto.FLOAT))
    model.graph.node.append(helper.make_node("Add", ["losses_before", number], ["losses"]))


def test_graphs_that_work_pass(tmp_path: Path) -> None:
    """Nothing stands against them."""
    write_graphs(tmp_path)
    assert rehearse(tmp_path, request()) == ""


def test_numbers_that_diverge_on_made_up_windows_mean_nothing(tmp_path: Path) -> None:
    """A graph is judged by what it does to its process, not by what it makes of windows that nobody captured."""
    write_graphs(tmp_path)
    harmed(tmp_path / "train_step.onnx", explode)
    assert rehearse(tmp_path, request()) == ""


HOSTILE: dict[str, tuple[Harm, float, str]] = {
    "a processor's signal": (divide, 20.0, "killed by SIGFPE"),
    "more memory than there is": (hoard, 20.0, "bad_alloc"),
    "no end": (go_on_for_ever, 2.0, "was not done after 2 s"),
    "another file": (lean_on_another_file, 20.0, "the train-step graph takes data from other files"),
    "another name": (forget_the_rate, 20.0, "lr"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_graph_that_harms_its_process_is_a_reason(case: str, tmp_path: Path) -> None:
    """The child pays for it; the daemon has a sentence."""
    harm, time_limit_s, reason = HOSTILE[case]
    write_graphs(tmp_path)
    harmed(tmp_path / "train_step.onnx", harm)
    assert reason in rehearse(tmp_path, request(time_limit_s=time_limit_s))


def test_a_damaged_eval_graph_and_shapes_that_do_not_fit_are_reasons(tmp_path: Path) -> None:
    """What is learnt must be what can be judged; a release may also lie about its parameters."""
    write_graphs(tmp_path)
    wrong = Learning(batch=8, parameters=(LEARNING.parameters[0],))
    assert "in.p.b" in rehearse(tmp_path, request(learning=wrong))
    (tmp_path / "eval.onnx").write_bytes((tmp_path / "eval.onnx").read_bytes()[:-40])
    assert rehearse(tmp_path, request()) != ""


def test_a_child_that_is_killed_is_a_reason(tmp_path: Path) -> None:
    """By whomever: the system that is short of memory, for one."""
    command = (sys.executable, "-c", f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    assert "killed by SIGKILL" in rehearse(tmp_path, request(), command)


def test_a_device_refuses_with_the_reason_tries_twice_and_a_new_release_anew() -> None:
    """The model goes on answering; the graphs of the release after it are judged on their own."""
    one, two = ship(1), ship(2)
    graphs = [shipped.release.companions.train_step for shipped in (one, two)]

    class Counting(MemoryInstaller):
        tried = 0

        async def rehearse(self, request: RehearsalRequest) -> str:
            self.tried += 1
            return await super().rehearse(request)

    loop = VirtualLoop(Rng(1))

    async def scenario() -> None:
        air, disk, clock = Air(), MemoryDisk(), VirtualClock(loop)
        for shipped in (one, two):
            air.hold(shipped)
        assert graphs[0] is not None
        installer = Counting(disk, clock, manners={graphs[0].sha256: Manner(crashes="when tried")})
        async with device(replace(Gear(disk, clock, AirLink(air)), installer=installer)) as unit:
            air.desire(assign(1, wanted(one, "e1")))
            await air.slot(committed(1))
            for _ in range(3):
                with pytest.raises(HostError, match=r"rehearsal of the graphs: .* crashed the child"):
                    await unit.host.learning("watch", 1)
            assert installer.tried == 2
            assert (await unit.inference.predict(np.zeros(4, np.float32))).version == 1
            air.desire(assign(2, wanted(two, "e2")))
            await air.slot(committed(2))
            for _ in range(3):
                assert await unit.host.learning("watch", 2) is not None
            assert installer.tried == 3

    loop.run(scenario())


def test_a_round_goes_on_without_the_device_whose_graph_takes_its_judge_down(tmp_path: Path) -> None:
    """Three devices, one with a graph that ends its process: it says so, learns nothing, and stays in the run."""
    sound, broken = write_graphs(tmp_path / "sound"), write_graphs(tmp_path / "broken")
    harmed(Path(broken.train_step), divide)
    names, broker = ("ada", "bob", "cleo"), BrokerProcess()
    quick = Tolerances(gather_s=0.5, resend_s=0.3, step_timeout_s=20)

    async def story() -> None:
        run = AggregatorProcess(tmp_path / "run", broker.address, names=names, rounds=2, tolerances=quick)
        async with fleet(names, broker.address, sound) as devices:
            devices["bob"].host.files = broken
            for one in devices.values():
                one.host.installer = ChildInstaller(str)
            assert await run.run_here() == 0
            assert devices["bob"].host.trained == []
        history = run.result().history
        assert [one.clients for one in history] == [2, 2]
        assert {(one.device, "killed by SIGFPE" in one.reason) for one in history[0].failures} == {("bob", True)}

    try:
        asyncio.run(asyncio.wait_for(story(), 60))
    finally:
        broker.kill()
