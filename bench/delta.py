"""Bytes of an update as a delta, over the bytes of the whole file, for four kinds of change of two real networks.

Networks are trained, exported, quantized and pruned by the optimizer's own passes on the watch data. Every delta is
unpacked again and compared. Above 0.9, or for files up to 256 KiB, the hub sends the whole file.
"""

import copy
import io
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import onnx

from bench.result import Outcome, finish
from cloud.service.deltas import MIN_BYTES, WORTH
from optimize.export import bind
from optimize.network import arrays
from optimize.passes.candidate import Candidate, parent_candidate
from optimize.passes.prune import Prune
from optimize.passes.quantize import Quantize
from optimize.train_step import export_eval
from optimize.training import Schedule, fit
from wire.adapters.zstd_delta import pack, unpack
from workloads.base import HubData
from workloads.watch.workload import WATCH

if TYPE_CHECKING:
    from torch import nn

WIDE = (128, 256, 512)
"""Channels of the larger network: 0.8 million parameters."""
SHORT_WIDE = (64, 128, 192)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    epochs: Annotated[int, msgspec.Meta(description="passes over the data in each training", ge=1)] = 8
    short: Annotated[bool, msgspec.Meta(description="one epoch and a smaller large network, for tests")] = False
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


@dataclass(frozen=True)
class Bench:
    """A network in training, with the data it learns from."""

    name: str
    network: "nn.Module"
    eval_graph: onnx.ModelProto
    data: HubData
    schedule: Schedule

    def exported(self, network: "nn.Module") -> Candidate:
        """The fp32 file of `network`: the same graph with its parameters, as versions of one model have."""
        return parent_candidate(bind(self.eval_graph, arrays(network)), network)

    def fp32(self, network: "nn.Module") -> bytes:
        """As a device gets it."""
        return self.exported(network).file()

    def int8(self, network: "nn.Module", every: int = 1) -> bytes:
        """Quantized, calibrated on every so manieth window."""
        return Quantize(self.data.train.x[::every])(self.exported(network)).file()

    def pruned(self, network: "nn.Module") -> bytes:
        """Half of the channels gone, the rest tuned."""
        narrower = Prune(0.5, WATCH.input_shape, lambda narrowed: self.trained(narrowed, 3))
        return narrower(self.exported(network)).file()

    def trained(self, network: "nn.Module", seed: int) -> "nn.Module":
        """`network`, fitted in place."""
        return fit(network, self.data.train, self.schedule, seed, lambda epoch, epochs, loss: None)


@dataclass(frozen=True)
class Change:
    """An update: the file that a device has and the one it shall have."""

    kind: str
    precision: str
    before: bytes
    after: bytes


def run(settings: Settings) -> int:
    """1 when a delta did not unpack to what it was made from."""
    epochs = 1 if settings.short else settings.epochs
    data = WATCH.hub_data()
    schedule = Schedule(epochs, WATCH.training.batch_size, WATCH.training.learning_rate, WATCH.training.weight_decay)
    networks = {"watch": WATCH.model(0), "wide": wide_network(SHORT_WIDE if settings.short else WIDE, 0)}
    benches = [
        Bench(name, network, export_eval(network, WATCH.input_shape), data, schedule)
        for name, network in networks.items()
    ]
    rows = [row(bench.name, change) for bench in benches for change in changes(bench)]
    return finish(Outcome({"rows": rows}, passed=all(one["unpacks"] for one in rows)), as_json=settings.json)


def wide_network(widths: tuple[int, ...], seed: int) -> "nn.Module":
    """A network of the watch model's kind, wider."""
    import torch
    from torch import nn

    class Mean(nn.Module):
        """Mean over time."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """[n, channels, time] -> [n, channels]."""
            return x.mean(2)

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((WATCH.input_shape[0], *widths)):
            layers += [nn.Conv1d(before, after, 5, stride=2, padding=2), nn.ReLU()]
        return nn.Sequential(*layers, Mean(), nn.Linear(widths[-1], len(WATCH.classes)))


def changes(bench: Bench) -> Iterator[Change]:
    """The four kinds: (a) and (b) in both precisions, (c) in int8, (d) in fp32."""
    first = bench.trained(copy.deepcopy(bench.network), 0)
    tuned = bench.trained(_only_the_head(copy.deepcopy(first)), 1)
    other = bench.trained(copy.deepcopy(bench.network), 2)
    fp32, int8 = bench.fp32(first), bench.int8(first)
    yield Change("last-layer fine-tune", "fp32", fp32, bench.fp32(tuned))
    yield Change("last-layer fine-tune", "int8", int8, bench.int8(tuned))
    yield Change("full retrain", "fp32", fp32, bench.fp32(other))
    yield Change("full retrain", "int8", int8, bench.int8(other))
    yield Change("re-quantize", "int8", int8, bench.int8(first, every=2))
    yield Change("prune", "fp32", fp32, bench.pruned(first))


def row(name: str, change: Change) -> dict[str, Any]:
    """The figures of one change."""
    began = time.perf_counter()
    delta = pack(change.before, change.after)
    seconds = time.perf_counter() - began
    back = b"".join(unpack(change.before, io.BytesIO(delta), len(change.after)))
    ratio = len(delta) / len(change.after)
    return {
        "model": name,
        "change": change.kind,
        "precision": change.precision,
        "full_bytes": len(change.after),
        "delta_bytes": len(delta),
        "ratio": round(ratio, 4),
        "offered": len(change.after) > MIN_BYTES and ratio <= WORTH,
        "pack_s": round(seconds, 3),
        "unpacks": back == change.after,
    }


def _only_the_head(network: "nn.Module") -> "nn.Module":
    """Everything but the last layer's weights is frozen."""
    for parameter in list(network.parameters())[:-2]:
        parameter.requires_grad_(False)
    return network
