"""Damaged model files for the installer child: whatever they do to it, the daemon's side gets a verdict and lives on.

A persistent child judges most of them, by the very function and under the very limits of the installer child; it is
replaced when a model kills or hangs it. Some go through the real installer, a fresh process each. Every so often the
undamaged model must pass, or a gate that refuses everything would look safe.
"""

import asyncio
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Annotated, Any

import msgspec

from bench.damaged_models.gate import Gate, gate
from bench.damaged_models.structures import damaged
from bench.damaged_models.watch_model import Variant, export
from bench.fuzzing.mutation import BLIND, Mutator, flip_bit, set_bytes
from bench.result import Outcome, finish
from edge_agent.adapters.child_installer import ChildInstaller
from edge_agent.canary import CanaryOrder, Verdict
from edge_agent.installer import Limits, Order
from edge_agent.ports import CanaryRequest

SHORT_MODELS = 5_000
STRUCTURED = 0.3
"""Share of models that are damaged along the grammar of ONNX; bytes of the others are damaged blindly."""
WAYS = (*BLIND, *(flip_bit, set_bytes) * 8)
"""How bytes are damaged: mostly in place, so that a good share still loads and runs."""
CHECK_EVERY = 250
ADDRESS_SPACE_BYTES = 1536 * 1024**2
NO_END = 24 * 3600
"""The persistent child's processor time is not bounded by the installer's limit, which is for one model."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    models: Annotated[int, msgspec.Meta(description="damaged models for the persistent child", ge=1)] = 50_000
    installed: Annotated[int, msgspec.Meta(description="damaged models for the real installer", ge=0)] = 200
    seed: Annotated[int, msgspec.Meta(description="another seed gives other models")] = 0
    time_limit_s: Annotated[float, msgspec.Meta(description="longest time for one model", gt=0)] = 2.0
    short: Annotated[bool, msgspec.Meta(description=f"{SHORT_MODELS} models, a tenth of the installer's")] = False
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


def run(settings: Settings) -> int:
    """Judge them all; 1 when the daemon's side was hurt or a good model was refused."""
    if settings.short:
        settings = msgspec.structs.replace(settings, models=SHORT_MODELS, installed=settings.installed // 10)
    began = time.monotonic()
    variants, golden = export(settings.seed)
    with tempfile.TemporaryDirectory(prefix="fleetloop-model-gate-") as folder, gate(settings.time_limit_s) as child:
        bench = _Bench(Path(folder), variants, golden, settings)
        figures = bench.persistent(child)
        figures |= {"installer": asyncio.run(bench.installer())}
    figures |= {"seconds": round(time.monotonic() - began, 1)}
    passed = figures["good_refused"] == 0 and figures["installer"]["unread"] == 0
    return finish(Outcome(figures, passed), as_json=settings.json)


class _Bench:
    def __init__(self, folder: Path, variants: tuple[Variant, ...], golden: bytes, settings: Settings) -> None:
        self._variants = variants
        self._settings = settings
        self._rng = Random(settings.seed)
        self._bytes = {one.name: iter(Mutator([one.model], settings.seed, WAYS)) for one in variants}
        self._model, self._golden = folder / "model", folder / "golden"
        self._golden.write_bytes(golden)

    def persistent(self, child: Gate) -> dict[str, Any]:
        """All models through one child at a time."""
        ends: Counter[str] = Counter()
        good_refused = 0
        for number in range(self._settings.models):
            if number % CHECK_EVERY == 0:
                good_refused += sum(not self._passes(child, one) for one in self._variants)
            variant, model = self._damaged()
            if model == variant.model:
                continue
            verdict, end = child.judge(self._order(variant, model))
            ends[_kind(verdict, end)] += 1
        deaths = {name: count for name, count in sorted(ends.items()) if name.startswith("SIG")}
        judged = sum(ends.values())
        ran = ends["accepted, exact"] + ends["accepted, within tolerance"] + ends["another answer"]
        return {
            "models": judged,
            "deaths": deaths,
            "timeouts": ends["too slow"],
            "ran_share": round(ran / judged, 3),
            "accepted_exact": ends["accepted, exact"],
            "accepted_within_tolerance": ends["accepted, within tolerance"],
            "refused_by_golden": ends["another answer"],
            "refused_by_runtime": ends["refused"],
            "child_starts": child.starts,
            "good_refused": good_refused,
        }

    async def installer(self) -> dict[str, int]:
        """A smaller number, each through a real installer child; every one must be read as a verdict."""
        installer = ChildInstaller(lambda path: str(self._model.parent / path))
        tally: Counter[str] = Counter(models=0, accepted=0, refused=0, unread=0)
        for _ in range(self._settings.installed):
            variant, model = self._damaged()
            self._order(variant, model)
            limit_s = 10 * self._settings.time_limit_s
            order = CanaryRequest("model", "golden", variant.logits, variant.tolerance, limit_s)
            tally["models"] += 1
            try:
                verdict = await installer.canary(order)
            except Exception:  # that is what is being counted
                tally["unread"] += 1
            else:
                tally["refused" if verdict.reason else "accepted"] += 1
        return dict(tally)

    def _passes(self, child: Gate, variant: Variant) -> bool:
        """Does the undamaged model pass? What refuses it may be the state an earlier one left: a new child decides."""
        order = self._order(variant, variant.model)
        if not child.judge(order)[0].reason:
            return True
        child.close()
        return not child.judge(order)[0].reason

    def _damaged(self) -> tuple[Variant, bytes]:
        variant = self._rng.choice(self._variants)
        if self._rng.random() < STRUCTURED:
            return variant, damaged(variant.model, self._rng)
        return variant, next(self._bytes[variant.name])

    def _order(self, variant: Variant, model: bytes) -> Order:
        self._model.write_bytes(model)
        paths = {"model": str(self._model), "golden": str(self._golden)}
        what = CanaryOrder(**paths, logits=variant.logits, tolerance=variant.tolerance)
        return Order(limits=Limits(cpu_s=NO_END, address_space_bytes=ADDRESS_SPACE_BYTES), what=what)


def _kind(verdict: Verdict, end: int) -> str:
    if end:
        return "too slow" if end < 0 else signal.Signals(end).name
    if verdict.golden is None:
        return "refused"
    if verdict.reason:
        return "another answer"
    return "accepted, exact" if verdict.golden.max_error == 0 else "accepted, within tolerance"
