"""The exported training step is torch's own SGD, in operators any onnxruntime has."""

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from optimize.compact import operators
from optimize.network import arrays
from optimize.train_step import NotTrainableError, export_eval, export_train_step
from workloads.watch import WATCH

LR, MU, BATCH, STEPS = 0.02, 0.9, 16, 50


class Separable(nn.Module):
    """Depthwise, dilated, grouped and 1x1 convolutions, layer norm and average pooling, in one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(4, 8, 3, padding=2, dilation=2, groups=2),
            nn.SiLU(),
            nn.AvgPool1d(2),
            nn.Conv1d(8, 8, 3, stride=2, groups=8),
            nn.Conv1d(8, 12, 1),
            nn.LayerNorm([12, 7]),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(12 * 7, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of [n, 4, 32]."""
        logits: torch.Tensor = self.layers(x)
        return logits


def perceptron() -> nn.Module:
    """Two linear layers."""
    return nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 3))


def images() -> nn.Module:
    """A 2-D network with group norm, overlapping max pooling with padding, and average pooling."""
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, stride=2, padding=1),
        nn.GroupNorm(4, 8),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def frozen_norm() -> nn.Module:
    """Batch-norm whose statistics are frozen is an affine layer, and may learn."""
    return nn.Sequential(
        nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3)
    ).eval()


def learnable(shape: tuple[int, ...], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """80 noisy examples [80, *shape] whose classes differ, so that paths do not diverge by rounding alone."""
    rng = np.random.default_rng(5)
    y = rng.integers(0, classes, 80)
    centres = rng.normal(size=(classes, *shape))
    x = centres[y] + rng.normal(size=(80, *shape))
    return x.astype(np.float32), y.astype(np.int64)


def session(model: bytes) -> ort.InferenceSession:
    """The stock runtime, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def torch_steps(network: nn.Module, x: np.ndarray, y: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Train in place by torch's own SGD; the losses [K]."""
    optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=MU)
    losses = []
    for row in index:
        loss = nn.functional.cross_entropy(network(torch.from_numpy(x[row])), torch.from_numpy(y[row]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


MODELS: list[tuple[Callable[[], nn.Module], tuple[int, ...], int]] = [
    (lambda: WATCH.model(0), (6, 128), 7),
    (perceptron, (12,), 3),
    (images, (2, 16, 16), 3),
    (Separable, (4, 32), 3),
    (frozen_norm, (3, 20), 3),
]


@pytest.mark.parametrize(
    ("build", "shape", "classes"), MODELS, ids=["watch", "mlp", "2d-cnn", "separable", "frozen-bn"]
)
def test_fifty_steps_give_the_parameters_that_torch_gives(
    build: Callable[[], nn.Module], shape: tuple[int, ...], classes: int
) -> None:
    """Parameters to 1e-4 relative and losses alike after 50 steps; the eval graph then agrees with torch, too."""
    torch.manual_seed(3)
    network = build()
    if shape == (6, 128):
        data = WATCH.hub_data().train
        x, y = data.x[::11], data.y[::11]
    else:
        x, y = learnable(shape, classes)
    index = np.random.default_rng(0).integers(0, len(x), (STEPS, BATCH))
    step = export_train_step(network, shape, BATCH)
    evaluate = session(export_eval(network, shape).SerializeToString())
    before = arrays(network)

    feed = {f"in.p.{name}": value for name, value in before.items()}
    feed |= {f"in.m.{name}": np.zeros_like(value) for name, value in before.items()}
    feed |= {"X": x, "Y": y, "idx": index, "lr": np.array(LR, np.float32), "mu": np.array(MU, np.float32)}
    runner = session(step.graph.SerializeToString())
    outputs = dict(zip([value.name for value in runner.get_outputs()], runner.run(None, feed), strict=True))
    losses = torch_steps(network, x, y, index)

    assert step.parameters == tuple(before)
    for name, expected in arrays(network).items():
        moved = np.linalg.norm(expected - before[name])
        assert moved > 0, f"{name} did not learn"
        assert np.linalg.norm(outputs[f"out.p.{name}"] - expected) <= 1e-4 * np.linalg.norm(expected)
    np.testing.assert_allclose(outputs["losses"], losses, rtol=1e-4, atol=1e-5)
    logits = evaluate.run(["logits"], {f"p.{n}": outputs[f"out.p.{n}"] for n in before} | {"x": x[:7]})[0]
    with torch.no_grad():
        np.testing.assert_allclose(logits, network(torch.from_numpy(x[:7])).numpy(), rtol=1e-3, atol=1e-4)


def test_steps_in_one_run_equal_steps_one_by_one() -> None:
    """A device may stop after any step and go on from what it holds."""
    network = perceptron()
    x, y = learnable((12,), 3)
    index = np.random.default_rng(1).integers(0, len(x), (6, BATCH))
    runner = session(export_train_step(network, (12,), BATCH).graph.SerializeToString())
    names = [value.name for value in runner.get_outputs()]
    fixed = {"X": x, "Y": y, "lr": np.array(LR, np.float32), "mu": np.array(MU, np.float32)}
    state = {f"in.p.{name}": value for name, value in arrays(network).items()}
    state |= {f"in.m.{name}": np.zeros_like(value) for name, value in arrays(network).items()}
    together = dict(zip(names, runner.run(None, state | fixed | {"idx": index}), strict=True))
    for row in index:
        outputs = dict(zip(names, runner.run(None, state | fixed | {"idx": row[None]}), strict=True))
        state = {name: outputs[name.replace("in.", "out.", 1)] for name in state}
    for name, value in state.items():
        assert np.array_equal(value, together[name.replace("in.", "out.", 1)]), name


def test_only_standard_operators_are_used() -> None:
    """An operator of another domain would need a runtime that devices do not have."""
    graph = export_train_step(images(), (2, 16, 16), BATCH).graph
    assert [one.domain for one in graph.opset_import] == [""]
    assert not [name for name in operators(graph) if "::" in name]


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.BatchNorm1d(4), "batch-norm in training mode"),
        (nn.BatchNorm1d(4, track_running_stats=False).eval(), "batch-norm in training mode"),
        (nn.Dropout(0.1), "dropout in training mode"),
        (nn.MaxPool1d(2, return_indices=True), "returns pooling indices"),
        (nn.ConvTranspose1d(4, 4, 3), "transposed convolution"),
    ],
)
def test_what_cannot_learn_on_a_device_is_refused_with_a_way_out(layer: nn.Module, said: str) -> None:
    """The exporter would turn training-mode batch-norm into wrong numbers without a word; here it is an error."""
    network = nn.Sequential(nn.Conv1d(3, 4, 3), layer, nn.Flatten(), nn.LazyLinear(3))
    if not getattr(layer, "return_indices", False):
        network(torch.zeros(2, 3, 12))
    with pytest.raises(NotTrainableError, match=said):
        export_train_step(network, (3, 12), BATCH)
