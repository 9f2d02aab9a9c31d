"""How often gates halt a good version, miss a bad one, and how many devices meet it first; beside fixed thresholds.

Fleets are synthetic, their truth is known (`bench.gate_rules.fleets`), and every rule looks at the same fleets,
minute by minute. Regressions: 5 points of the commit rate, 20 % of latency, 3 points of accuracy. The plan as an
operator would order it has all three gates at once, with 1.5 % false halts each; then each kind alone is compared at
the same rate.
"""

from dataclasses import asdict
from typing import Annotated, Any

import msgspec

from bench.gate_rules.fleets import GOOD, REGRESSIONS, Fleet, Truth, draw
from bench.gate_rules.rules import MOST, Case, Halted, aws, calibrate, errors_of, gates, hawkbit, ours, rate, summary
from bench.gate_rules.timeline import Timeline, timeline
from bench.result import Outcome, finish

TOGETHER = 0.015
"""Chance of a false halt of each gate, where there are three."""
KINDS = tuple(truth.name for truth in REGRESSIONS)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    fleets: Annotated[int, msgspec.Meta(description="fleets of each kind", ge=20)] = 200
    devices: Annotated[int, msgspec.Meta(description="devices of a fleet", ge=200)] = 2000
    seed: Annotated[int, msgspec.Meta(description="the first seed", ge=0)] = 0
    short: Annotated[bool, msgspec.Meta(description="20 fleets of each kind, for tests")] = False
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


Drawn = list[tuple[Fleet, Timeline]]


def run(settings: Settings) -> int:
    """1 when a rate is above 5 %, or a fixed rule that keeps 5 % false halts exposed fewer devices (median or mean)."""
    fleets = 20 if settings.short else settings.fleets
    good = _draw(settings, GOOD, settings.seed, fleets)
    bad = {truth.name: _draw(settings, truth, settings.seed, fleets) for truth in REGRESSIONS}
    figures: dict[str, Any] = {"fleets": fleets, "devices": settings.devices, **_together(good, bad)}
    other = settings.seed + 1_000_000
    trained = _draw(settings, GOOD, other, fleets)
    figures["compared"] = {
        truth.name: _compared(truth.name, (good, bad[truth.name]), (trained, _draw(settings, truth, other, fleets)))
        for truth in REGRESSIONS
    }
    kept = figures["false_halt_rate"] <= MOST and figures["missed_halt_rate"] <= MOST
    fewer = all(_fewer(one) for one in figures["compared"].values())
    return finish(Outcome(figures, passed=kept and fewer), as_json=settings.json)


def _fewer(one: dict[str, Any]) -> bool:
    """For one kind of regression. A rule that halts more good versions than it may is quick for a bad reason."""
    kept = [one[name] for name in ("hawkbit", "aws") if one[name]["false_halt_rate"] <= MOST]
    return all(one["ours"][exposed] <= rule[exposed] for rule in kept for exposed in ("median_exposed", "mean_exposed"))


def _draw(settings: Settings, truth: Truth, first: int, fleets: int) -> Drawn:
    drawn = (draw(first + number, truth, settings.devices) for number in range(fleets))
    return [(fleet, timeline(fleet)) for fleet in drawn]


def _together(good: Drawn, bad: dict[str, Drawn]) -> dict[str, Any]:
    """All gates in one plan, against each regression."""
    asked = gates(KINDS, TOGETHER)
    false = sum(ours(fleet, line, asked) is not None for fleet, line in good) / len(good)
    results = {
        kind: summary(false, [(line, ours(fleet, line, asked)) for fleet, line in drawn]) for kind, drawn in bad.items()
    }
    return {
        "false_halt_rate": round(false, 4),
        "missed_halt_rate": max(one.missed_halt_rate for one in results.values()),
        "median_devices_exposed_to_bad": {kind: one.median_exposed for kind, one in results.items()},
    }


def _compared(kind: str, judged: tuple[Drawn, Drawn], trained: tuple[Drawn, Drawn]) -> dict[str, Any]:
    """One gate against the fixed rules, which were calibrated on other seeds. Pairs: good and bad fleets."""
    good, bad = judged
    asked = gates((kind,), MOST)
    false = sum(ours(fleet, line, asked) is not None for fleet, line in good) / len(good)
    found = {"ours": asdict(summary(false, [(line, ours(fleet, line, asked)) for fleet, line in bad]))}
    for family, members in _families().items():
        name, rule = calibrate(members, *(_cases(drawn, kind) for drawn in trained))
        found[family] = {"rule": name, **asdict(rate(rule, _cases(good, kind), _cases(bad, kind)))}
    return found


def _cases(drawn: Drawn, kind: str) -> list[Case]:
    return [(line, errors_of(fleet, kind)) for fleet, line in drawn]


def _families() -> dict[str, list[tuple[str, Halted]]]:
    """Thresholds from 2 to 60 %."""
    percents = [2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60]
    return {
        "hawkbit": [(f"> {percent} % of the group", hawkbit(percent)) for percent in percents],
        "aws": [
            (f">= {percent} % of completed, at least {least}", aws(percent, least))
            for percent in percents
            for least in (10, 25, 50, 100, 200, 400)
        ],
    }
