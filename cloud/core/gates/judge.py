"""One verdict for each comparison of each gate: refused, passed or undecided, with the evidence it rests on.

A version may be bad from the start, or on the devices of a later wave only, so the same test asks once for each open
wave: what has been shown from that wave on, is it bad? The declared chance of a false halt is shared among these
questions, most of it for the whole rollout (`FIRST`), so that it holds once for all of them together. What passes is
decided on everything shown so far. Two denominators are looked at: the executions that have ended (by the test), and,
while that is undecided, the wave as planned: a gate that `hold`s is refused as soon as the wave cannot reach it any
more, even if all others did.
A wave that is over without a decision goes on when its own figures meet the gate, or when the gate says `proceed`.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import reduce
from operator import add
from typing import Annotated, Final

from msgspec import Meta

from cloud.core.gates.catalogue import Unit
from cloud.core.gates.evidence import NONE, SCALE, Sample, against_control, is_proportion
from cloud.core.gates.language import Against, Comparison, GateError, figure, parse
from cloud.core.gates.sequential import Decision, Errors, Finding, mean_test, ratio_test

Count = Annotated[int, Meta(ge=1, lt=2**31)]
Expression = Annotated[str, Meta(min_length=1, max_length=500)]
ErrorRate = Annotated[float, Meta(gt=0, le=0.5)]
Indifference = Annotated[float, Meta(gt=0, le=1_000_000)]
_TINY: Final = 1e-9
FIRST: Final = 0.9
"""Share of a false halt's chance that the question about the whole rollout gets; the later waves share the rest."""
MEAN_SAMPLE: Final = 10
"""Devices that a mean is taken over at least, where a gate does not say."""
SHARE_MARGIN: Final = 0.05
OTHER_MARGIN: Final = 0.1


class Undecided(StrEnum):
    """What a wave does that has ended while a gate is undecided."""

    HOLD = "hold"
    PROCEED = "proceed"


@dataclass(frozen=True, slots=True)
class Gate:
    """An expression, and how surely it is decided. Error rates are those of the whole rollout.

    `indifference`: how far apart good and bad are, in the fact's unit (a share, where ratios are compared); between
    them either answer is right. None: what the expression allows beside "no change", or 5 points, or 10 %.
    `minimum_sample`: devices needed before it is decided; None: 1 for proportions, 10 for means.
    """

    expression: Expression
    false_halt: ErrorRate = 0.05
    missed_halt: ErrorRate = 0.05
    indifference: Indifference | None = None
    minimum_sample: Count | None = None
    undecided: Undecided = Undecided.HOLD


COMMITTED: Final = (Gate("commit_rate >= 100 %"), Gate("golden_agreement >= 100 %"))
"""Every device commits, having reproduced every golden vector."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One comparison of a gate, ready to be judged."""

    gate: Gate
    comparison: Comparison
    margin: float

    @property
    def proportion(self) -> bool:
        """Is it about a proportion of devices?"""
        return is_proportion(self.comparison)

    @property
    def minimum(self) -> int:
        """Devices needed before it is decided."""
        return self.gate.minimum_sample or (1 if self.proportion else MEAN_SAMPLE)


@dataclass(frozen=True, slots=True)
class Tally:
    """What is known of a wave, or of several. Failures that a person has acknowledged are in none of the counts.

    `accepted`: of those that committed, the ones whose evidence a person has accepted; `sample` has nothing of them.
    `control`: of the whole rollout, the same for every wave.
    """

    planned: int
    ended: int
    committed: int
    sample: Sample
    control: Sample = NONE
    accepted: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.planned + other.planned,
            self.ended + other.ended,
            self.committed + other.committed,
            self.sample + other.sample,
            self.control,
            self.accepted + other.accepted,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """One comparison of one wave. `passed`: it does not keep the wave from going on. `value` None: nothing to judge."""

    gate: str
    decision: Decision
    passed: bool
    value: float | None
    threshold: float
    sample: int
    text: str
    statistics: dict[str, float] = field(default_factory=dict)


@functools.lru_cache(maxsize=256)
def rules(gates: tuple[Gate, ...]) -> tuple[Rule, ...]:
    """The comparisons of all gates. Raises GateError."""
    return tuple(Rule(gate, one, _margin(gate, one)) for gate in gates for one in parse(gate.expression))


def judge(rule: Rule, waves: Sequence[Tally], index: int, of: int) -> Verdict:
    """The gate for one of the `waves` that are open, `of` all that are planned."""
    wave, so_far = waves[index], reduce(add, waves)
    finding = _decide(rule, so_far, _share(0, of))
    since = reduce(add, waves[index:])
    suspicion = _decide(rule, since, _share(index, of))
    if suspicion.decision is Decision.REFUSED:
        finding, so_far = suspicion, since
    decision = finding.decision
    short = _cannot_reach(rule, wave) if decision is Decision.UNDECIDED else ""
    if short:
        decision = Decision.REFUSED
    return Verdict(
        gate=rule.comparison.text,
        decision=decision,
        passed=decision is Decision.PASSED or (decision is Decision.UNDECIDED and _good_enough(rule, wave, so_far)),
        value=_value(rule, so_far),
        threshold=rule.comparison.offset if rule.comparison.against is Against.LITERAL else 0.0,
        sample=so_far.sample.n,
        text=short or _text(rule, so_far, finding),
        statistics=finding.statistics,
    )


def refusal(verdicts: Sequence[Verdict]) -> str:
    """Why the rollout must stop; empty when it need not."""
    refused = (f"gate {one.gate}: {one.text}" for one in verdicts if one.decision is Decision.REFUSED)
    return next(refused, "")


def _share(index: int, of: int) -> float:
    """Of the chance of a false halt, for the question about everything from this wave on."""
    if of == 1:
        return 1.0
    return FIRST if index == 0 else (1 - FIRST) / (of - 1)


def _decide(rule: Rule, so_far: Tally, share: float) -> Finding:
    comparison, gate, sample = rule.comparison, rule.gate, so_far.sample
    errors = Errors(gate.false_halt * share, gate.missed_halt)
    if rule.proportion and comparison.at_least and comparison.offset <= 0:
        return Finding(Decision.PASSED, {})
    if sample.n < rule.minimum or (comparison.against is Against.CONTROL and so_far.control.n < rule.minimum):
        return Finding(Decision.UNDECIDED, {})
    if rule.proportion:
        successes = sample.total // SCALE
        good = min(1.0, comparison.offset + rule.margin)
        bad = comparison.offset if good > comparison.offset else comparison.offset - SHARE_MARGIN
        if not comparison.at_least:
            return _fewer(rule, sample, errors)
        return ratio_test(successes, sample.n - successes, good, bad, errors)
    if comparison.against is Against.CONTROL:
        mean, deviation, n = against_control(comparison, sample, so_far.control)
    else:
        mean, deviation, n = sample.mean, math.sqrt(sample.variance), sample.n
    return mean_test(n, mean, max(deviation, rule.margin / 4), rule.margin, errors)


def _fewer(rule: Rule, sample: Sample, errors: Errors) -> Finding:
    """At most so many devices: the same test with the other side counted."""
    successes, limit = sample.total // SCALE, rule.comparison.offset
    return ratio_test(sample.n - successes, successes, 1 - limit + rule.margin, 1 - limit, errors)


def _cannot_reach(rule: Rule, wave: Tally) -> str:
    """The wave as planned: would it miss the gate even if all that are outstanding went well?"""
    if not rule.comparison.fact.event or not rule.comparison.at_least or rule.gate.undecided is Undecided.PROCEED:
        return ""
    failed = wave.sample.n - wave.sample.total // SCALE
    allowed = (1 - rule.comparison.offset) * wave.planned
    if failed <= allowed + _TINY:
        return ""
    return f"{failed} of {wave.planned} planned executions failed, at most {math.floor(allowed + _TINY)} may"


def _good_enough(rule: Rule, wave: Tally, so_far: Tally) -> bool:
    """The wave is over and nothing was decided."""
    if wave.ended < wave.planned:
        return False
    if wave.planned == 0 or rule.comparison.fact.event:
        return True  # what misses the gate as planned has been refused already
    new = so_far.committed - so_far.accepted
    if new == 0 and so_far.accepted:
        return True  # a person has accepted all that there is
    if so_far.sample.n < min(rule.minimum, max(1, new)):
        return False
    if rule.gate.undecided is Undecided.PROCEED or rule.proportion:
        return True
    if rule.comparison.against is Against.CONTROL:
        return so_far.control.n > 0 and against_control(rule.comparison, so_far.sample, so_far.control)[0] <= _TINY
    return so_far.sample.mean <= _TINY


def _margin(gate: Gate, one: Comparison) -> float:
    """Between the limit, where bad begins, and where good ends."""
    asked = gate.indifference
    if is_proportion(one):
        room = 1 - one.offset if one.at_least else one.offset
        if asked is not None and asked > room + _TINY:
            raise GateError(1, f"{one.text!r} leaves room for {room:g}, so `indifference` cannot be {asked:g}")
        return min(SHARE_MARGIN, room / 2) if asked is None else asked
    if asked is not None:
        return math.log1p(asked) if one.relative else asked
    if one.against is Against.LITERAL:
        return SHARE_MARGIN if one.fact.unit is Unit.SHARE else OTHER_MARGIN * one.offset
    allowed = math.log(one.factor) if one.relative else one.offset if one.factor == 1 else 0.0
    margin = -allowed if one.at_least else allowed
    if margin <= 0:
        raise GateError(1, f"{one.text!r} allows no change at all: give `indifference`, how much worse is surely bad")
    return margin


def _value(rule: Rule, so_far: Tally) -> float | None:
    """What people are shown: a share, a figure, or how it stands beside the reference (as a ratio or a difference)."""
    sample, one = so_far.sample, rule.comparison
    if not sample.n:
        return None
    if rule.proportion:
        return sample.mean
    if one.against is Against.LITERAL:
        return one.offset + (-sample.mean if one.at_least else sample.mean)
    if one.against is Against.CONTROL:
        if not so_far.control.n:
            return None
        badness = against_control(one, sample, so_far.control)[0]
    else:
        badness = sample.mean
    excess = -badness if one.at_least else badness
    return one.factor * math.exp(excess) if one.relative else one.offset + excess


def _text(rule: Rule, so_far: Tally, finding: Finding) -> str:
    """The evidence in words."""
    one, sample, value = rule.comparison, so_far.sample, _value(rule, so_far)
    if one.fact.event:
        failed = sample.n - sample.total // SCALE
        return f"{so_far.committed} of {so_far.planned} committed, {failed} of {sample.n} completed executions failed"
    if value is None:
        return "nothing measured yet"
    if rule.proportion:
        return f"{sample.total // SCALE} of {sample.n} devices at {figure(one.fact, 1.0)}"
    if one.against is Against.LITERAL:
        seen = f"{figure(one.fact, value)} on the mean of {sample.n} devices"
    elif one.relative:
        seen = f"{value:.3g} times {one.against} on {sample.n} devices"
    else:
        seen = f"{figure(one.fact, value)} beside {one.against} on {sample.n} devices"
    control = f", {so_far.control.n} in the control group" if one.against is Against.CONTROL else ""
    return f"{seen}{control} ({finding.decision})"
