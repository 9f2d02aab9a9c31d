"""What simulated runs say at their end: what was expected, what happened when, and a digest that proves repetition."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from simulator.durations import written
from wire.ports import SECOND


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """Something that had to be so, and whether it was."""

    name: str
    passed: bool
    detail: str


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """A figure over time, in seconds from the scenario's start. It keeps each value until the next moment."""

    at_s: tuple[float, ...]
    values: tuple[float, ...]


class RolloutReport(msgspec.Struct, frozen=True, kw_only=True):
    """How one rollout went. `seconds` is virtual time until it came to rest or to the end of the run; `harmed` are
    devices that were assigned a version that misbehaves there. Curves count devices."""

    name: str
    model: str
    version: int
    good: bool
    state: str
    reason: str
    waves_opened: int
    planned: int
    assigned: int
    committed: int
    failed: int
    harmed: int
    began_s: float
    seconds: float
    outcomes: dict[str, int]
    reasons: dict[str, int]
    """Why devices failed, the most frequent reasons first, and how many did."""
    exposure: Curve
    commits: Curve


class RoundFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One federated round: answers that counted, answers that did not, mean accuracy (0..1) as the devices measured it
    after it."""

    number: int
    clients: int
    failed: int
    accuracy: float | None


class FederatedReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a federated run went. `before` and `after`: mean accuracy (0..1) of the devices, each on its own holdout; the
    curve has it in percent, over virtual time."""

    name: str
    model: str
    version: int
    strategy: str
    state: str
    reason: str
    devices: int
    began_s: float
    seconds: float
    before: float | None
    after: float | None
    result_version: int | None
    rounds: tuple[RoundFigures, ...]
    reasons: dict[str, int]
    """Why answers did not count, the most frequent reasons first, and how many."""
    accuracy: Curve


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened at a moment: a step of the operator's, or a fault."""

    at_s: float
    kind: str
    what: str


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured now and then, all at the same moments. `agreeing`: share (0..1) of the devices that have
    accepted what is desired of them. Bytes count from the start of the run, both ways; `hub_bytes` is the hub's own."""

    at_s: tuple[float, ...]
    online: tuple[int, ...]
    agreeing: tuple[float, ...]
    device_bytes: tuple[float, ...]
    hub_bytes: tuple[int, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run. `digest` covers every message on the broker in order, and is the same for the same settings."""

    scenario: str
    policy: str
    seed: int
    devices: int
    passed: bool
    expectations: tuple[Expectation, ...]
    rollouts: tuple[RolloutReport, ...]
    marks: tuple[Mark, ...]
    samples: Samples
    settled_s: float | None
    virtual_s: float
    wall_s: float
    events: int
    published: int
    delivered: int
    transactions: int
    faults: dict[str, int]
    digest: str
    federated: tuple[FederatedReport, ...] = ()


def as_lines(report: Report) -> list[str]:
    """One run for people."""
    lines = [f"{report.scenario}: {report.devices} devices, seed {report.seed}"]
    for rollout in report.rollouts:
        reason = f" ({rollout.reason})" if rollout.reason else ""
        lines.append(
            f"{rollout.name}: {rollout.model} version {rollout.version} {rollout.state}{reason} after "
            f"{_time(rollout.seconds)}; {rollout.committed} of {rollout.assigned} assigned committed, "
            f"{_outcomes(rollout)}"
        )
        lines += [f"  {count} x {why}" for why, count in rollout.reasons.items()]
    lines += [line for run in report.federated for line in _learning(run)]
    fired = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in report.faults.items() if count)
    lines.append(f"faults: {fired or 'none'}")
    speed = report.virtual_s / report.wall_s if report.wall_s else 0
    lines.append(
        f"{_time(report.virtual_s)} of virtual time in {report.wall_s:.1f} s (x {speed:.0f}): {report.events} events, "
        f"{report.published} messages in, {report.delivered} out, {report.transactions} transactions"
    )
    lines += [f"{'ok  ' if one.passed else 'FAIL'} {one.name}: {one.detail}" for one in report.expectations]
    return [*lines, f"digest {report.digest}"]


def as_table(reports: Sequence[Report]) -> list[str]:
    """Several seeds for people: how often each expectation was met, and what failed first."""
    head = reports[0]
    lines = [f"{head.scenario}: {head.devices} devices, {len(reports)} seeds"]
    for index, rollout in enumerate(head.rollouts):
        runs = [report.rollouts[index] for report in reports if index < len(report.rollouts)]
        states = ", ".join(f"{count} {state}" for state, count in _counted(run.state for run in runs).items())
        lines.append(
            f"{rollout.name}: {states}; median {_time(_middle([run.seconds for run in runs]))}, "
            f"{_middle([run.assigned for run in runs]):.0f} of {rollout.planned} assigned"
        )
    for index, one in enumerate(head.expectations):
        results = [report.expectations[index] for report in reports if index < len(report.expectations)]
        met = sum(result.passed for result in results)
        lines.append(f"{'ok  ' if met == len(reports) else 'FAIL'} {one.name}: in {met} of {len(reports)} seeds")
    failed = [report for report in reports if not report.passed]
    for report in failed[:3]:
        wrong = next(one for one in report.expectations if not one.passed)
        lines.append(f"seed {report.seed}: {wrong.name}: {wrong.detail}")
    return lines


def as_json(reports: Sequence[Report]) -> str:
    """All runs as one JSON object on one line; curves and samples are for the HTML report only."""
    runs = [msgspec.to_builtins(report) for report in reports]
    for run in runs:
        del run["samples"]
        for rollout in run["rollouts"]:
            del rollout["exposure"], rollout["commits"]
        for learning in run["federated"]:
            del learning["accuracy"]
    whole = {
        "scenario": reports[0].scenario,
        "seeds": len(reports),
        "passed": all(report.passed for report in reports),
        "runs": runs,
    }
    return msgspec.json.encode(whole).decode()


def _counted(states: Iterable[str]) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for state in states:
        counts[state] = counts.get(state, 0) + 1
    return counts


def _outcomes(rollout: RolloutReport) -> str:
    others = {name: count for name, count in sorted(rollout.outcomes.items()) if name != "succeeded"}
    return ", ".join(f"{count} {name}" for name, count in others.items()) or "none failed"


def _learning(run: FederatedReport) -> list[str]:
    reason = f" ({run.reason})" if run.reason else ""
    went = "" if run.before is None or run.after is None else f"; accuracy {run.before:.3f} -> {run.after:.3f}"
    lines = [
        f"{run.name}: {run.devices} devices learn from {run.model} version {run.version} by {run.strategy}, "
        f"{run.state}{reason} after {_time(run.seconds)} and {len(run.rounds)} rounds{went}"
    ]
    return lines + [f"  {count} x {why}" for why, count in run.reasons.items()]


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _time(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:.0f} s"
    return written(round(seconds / 60) * 60 * SECOND) if seconds < 7200 else f"{seconds / 3600:.1f} h"
