"""Damaged models and training graphs for the installer child: the daemon's side gets a verdict for each, and lives on.

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

from bench.damaged_models.gate import Gate, Said, gate
from bench.damaged_models.structures import damaged
from bench.damaged_models.watch_model import MODEL, Learner, Subject, export
from bench.fuzzing.mutation import BLIND, Mutator, flip_bit, set_bytes
from bench.result import Outcome, finish
from edge_agent.adapters.child_installer import ChildInstaller
from edge_agent.installer import Limits, Order
from edge_agent.rehearsal import Rehearsed

SHORT_MODELS = 5_000
STRUCTURED = 0.3
"""Share of models that are damaged along the grammar of ONNX; bytes of the others are damaged blindly."""
WAYS = (*BLIND, *(flip_bit, set_bytes) * 8)
"""How bytes are damaged: mostly in place, so that a good share still loads and runs."""
LEARNERS = 0.2
"""Weight of the training graph; each variant has the rest of 1."""
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
    subjects, beside = export(settings.seed)
    with tempfile.TemporaryDirectory(prefix="fleetloop-model-gate-") as folder, gate(settings.time_limit_s) as child:
        bench = _Bench(Path(folder), subjects, beside, settings)
        figures = bench.persistent(child)
        figures |= {"installer": asyncio.run(bench.installer())}
    figures |= {"seconds": round(time.monotonic() - began, 1)}
    passed = figures["good_refused"] == 0 and figures["installer"]["unread"] == 0
    return finish(Outcome(figures, passed), as_json=settings.json)


class _Bench:
    def __init__(
        self, folder: Path, subjects: tuple[Subject, ...], beside: dict[str, bytes], settings: Settings
    ) -> None:
        self._subjects = subjects
        self._weights = [LEARNERS if isinstance(one, Learner) else 1 - LEARNERS for one in subjects]
        self._settings = settings
        self._rng = Random(settings.seed)
        self._bytes = {one.name: iter(Mutator([one.model], settings.seed, WAYS)) for one in subjects}
        self._folder = folder
        for name, content in beside.items():
            (folder / name).write_bytes(content)

    def persistent(self, child: Gate) -> dict[str, Any]:
        """All models through one child at a time."""
        ends: Counter[str] = Counter()
        good_refused = learners = 0
        for number in range(self._settings.models):
            if number % CHECK_EVERY == 0:
                good_refused += sum(not self._passes(child, one) for one in self._subjects)
            subject, model = self._damaged()
            if model == subject.model:
                continue
            learners += isinstance(subject, Learner)
            verdict, end = child.judge(self._order(subject, model))
            ends[_kind(verdict, end)] += 1
        deaths = {name: count for name, count in sorted(ends.items()) if name.startswith("SIG")}
        judged = sum(ends.values())
        ran = ends["learnt"] + ends["accepted, exact"] + ends["accepted, within tolerance"] + ends["another answer"]
        return {
            "models": judged,
            "training_graphs": learners,
            "deaths": deaths,
            "timeouts": ends["too slow"],
            "ran_share": round(ran / judged, 3),
            "learnt": ends["learnt"],
            "accepted_exact": ends["accepted, exact"],
            "accepted_within_tolerance": ends["accepted, within tolerance"],
            "refused_by_golden": ends["another answer"],
            "refused_by_runtime": ends["refused"],
            "child_starts": child.starts,
            "good_refused": good_refused,
        }

    async def installer(self) -> dict[str, int]:
        """A smaller number, each through a real installer child; every one must be read as a verdict."""
        installer = ChildInstaller(lambda path: str(self._folder / path))
        tally: Counter[str] = Counter(models=0, accepted=0, refused=0, unread=0)
        for _ in range(self._settings.installed):
            subject, model = self._damaged()
            (self._folder / MODEL).write_bytes(model)
            tally["models"] += 1
            try:
                refusal = await subject.installed(installer, 10 * self._settings.time_limit_s)
            except Exception:  # that is what is being counted
                tally["unread"] += 1
            else:
                tally["refused" if refusal else "accepted"] += 1
        return dict(tally)

    def _passes(self, child: Gate, subject: Subject) -> bool:
        """Does the undamaged model pass? What refuses it may be the state an earlier one left: a new child decides."""
        order = self._order(subject, subject.model)
        if not child.judge(order)[0].reason:
            return True
        child.close()
        return not child.judge(order)[0].reason

    def _damaged(self) -> tuple[Subject, bytes]:
        (subject,) = self._rng.choices(self._subjects, self._weights)
        if self._rng.random() < STRUCTURED:
            return subject, damaged(subject.model, self._rng)
        return subject, next(self._bytes[subject.name])

    def _order(self, subject: Subject, model: bytes) -> Order:
        (self._folder / MODEL).write_bytes(model)
        limits = Limits(cpu_s=NO_END, address_space_bytes=ADDRESS_SPACE_BYTES)
        return Order(limits=limits, what=subject.what(self._folder))


def _kind(verdict: Said, end: int) -> str:
    if end:
        return "too slow" if end < 0 else signal.Signals(end).name
    if isinstance(verdict, Rehearsed):
        return "refused" if verdict.reason else "learnt"
    if verdict.golden is None:
        return "refused"
    if verdict.reason:
        return "another answer"
    return "accepted, exact" if verdict.golden.max_error == 0 else "accepted, within tolerance"
