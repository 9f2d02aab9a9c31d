"""A version's parent by training on the hub, with torch. The only job that prunes, since it may tune what is left."""

from __future__ import annotations

from torch import nn

from optimize.export import bind
from optimize.network import arrays
from optimize.origin import Origin, Recipe, Report, int8_recipes
from optimize.passes.candidate import PARENT, parent_candidate
from optimize.passes.half import half
from optimize.passes.prune import Prune
from optimize.spec import TrainSpec
from optimize.train_step import export_eval, export_train_step
from optimize.training import Progress, Schedule, fit
from workloads.base import HubData, Workload


def train(spec: TrainSpec, workload: Workload, data: HubData, report: Report) -> Origin:
    """Train the workload's model and export it with its train-step and eval graphs.

    Raises NotTrainableError before any training when devices could not learn with this model.
    """
    network = workload.model(spec.seed).eval()
    step = export_train_step(network, workload.input_shape, workload.federated.batch_size)
    eval_graph = export_eval(network, workload.input_shape)
    report("exported", graph="train-step", bytes=step.graph.ByteSize(), parameters=len(step.parameters))

    def finetune(narrowed: nn.Module) -> nn.Module:
        schedule = Schedule.finetune(workload.training)
        return fit(narrowed, data.train, schedule, spec.seed, _epochs(report, "finetune"))

    fit(network, data.train, Schedule.full(workload.training), spec.seed, _epochs(report, "train"))
    parameters = arrays(network)
    return Origin(
        parent=parent_candidate(bind(eval_graph, parameters), network),
        eval_graph=eval_graph,
        train_step=step.graph,
        batch=step.batch,
        parameters=parameters,
        recipes=[
            *int8_recipes(data, spec.targets),
            Recipe("fp16", PARENT, half),
            Recipe("pruned", PARENT, Prune(spec.prune_share, workload.input_shape, finetune)),
            *int8_recipes(data, spec.targets, base="pruned"),
        ],
    )


def _epochs(report: Report, stage: str) -> Progress:
    def progress(epoch: int, epochs: int, loss: float) -> None:
        report("epoch", stage=stage, epoch=epoch, epochs=epochs, loss=round(loss, 5))

    return progress
