"""What devices of some lives learn with, and the federated run that they take part in."""

from typing import Final

from cloud.service.federated_runs import NewRun
from federated.records import save_arrays
from simulator.core.rng import Rng
from simulator.fakes.learner import PROTOTYPES, first_prototypes
from simulator.version import Files, learning_files

FIRST_SKILL: Final = 0.4
STEP_TIMEOUT_S, GATHER_S, QUORUM = 30.0, 10.0, 2
"""Short, since peace is to come: who is away for longer is not waited for."""


def files_to_learn_with(rng: Rng, model_bytes: int) -> Files:
    """Files of version 1, which knows something already."""
    return learning_files(rng, model_bytes, save_arrays({PROTOTYPES: first_prototypes(FIRST_SKILL)}))


def federated_run(model: str, rounds: int) -> NewRun:
    """From version 1 of the model on, by everybody who may."""
    request = {
        "strategy": "FedAvg",
        "strategy_args": {"fraction_train": 1.0},
        "rounds": rounds,
        "evaluate_every": 1,
        "train": {"local-epochs": 1, "lr": 0.25, "momentum": 0.0},
        "seed": 1,
        "tolerances": {"step_timeout_s": STEP_TIMEOUT_S, "gather_s": GATHER_S, "quorum": QUORUM},
    }
    return NewRun("learning", "learning-job", model, 1, {}, request)
