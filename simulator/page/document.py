"""Puts the report together: what was expected, how the rollouts went, over all seeds, and what happened meanwhile."""

from collections.abc import Callable, Collection, Iterable, Sequence
from html import escape
from itertools import accumulate

from simulator.comparison import Comparison, Estimate
from simulator.page import learning
from simulator.page.bands import band
from simulator.page.plots import Axis, Line, Part, bars, lanes, lines
from simulator.page.style import STYLE
from simulator.report import Curve, Report, RolloutReport, Samples
from simulator.scenario.document import Scenario

FAILED = ("failed_no_change", "rolled_back", "unable_to_roll_back", "timed_out", "rejected")


def write_report(scenario: Scenario, reports: Sequence[Report]) -> str:
    """One scenario over its seeds."""
    met = sum(report.passed for report in reports)
    body = [
        _header(scenario, met == len(reports), f"expectations met in {met} of {len(reports)} runs"),
        _figures(reports),
        _plots(reports),
        "<h2>What was expected</h2>",
        _expectations(reports),
        "<h2>Rollouts</h2>",
        _rollouts(reports),
        learning.table(reports) if reports[0].federated else "",
        _seeds(reports),
    ]
    return _page(scenario.title, body)


def write_comparison(scenario: Scenario, comparison: Comparison, reports: Sequence[Report]) -> str:
    """Policies side by side over the same seeds."""
    count = comparison.seeds
    groups = {
        one.policy: reports[number * count : (number + 1) * count] for number, one in enumerate(comparison.figures)
    }
    judged = frozenset(comparison.rollouts)
    exposure = {name: [_summed(run, _exposure, judged) for run in runs] for name, runs in groups.items()}
    commits = {name: [_summed(run, _commits, judged) for run in runs] for name, runs in groups.items()}
    curves = [curve for one in (exposure, commits) for runs in one.values() for curve in runs]
    until_s = max((curve.at_s[-1] for curve in curves if curve.at_s), default=1.0)
    body = [
        _header(scenario, None, f"{len(groups)} policies, {count} seeds each"),
        '<div class="plots">',
        lines("Devices reached", [Line(one, band(runs, until_s)) for one, runs in exposure.items()], until_s, Axis()),
        lines(
            "Devices that committed", [Line(one, band(runs, until_s)) for one, runs in commits.items()], until_s, Axis()
        ),
        "</div>",
        "<h2>Figures</h2>",
        _policies(comparison),
        f"<h2>Differences from {escape(comparison.figures[0].policy)}, seed by seed</h2>",
        _differences(comparison),
    ]
    return _page(f"{scenario.title}: policies", body)


# Parts of the page.


def _page(title: str, body: Iterable[str]) -> str:
    foot = "Bands hold eight of ten runs, lines are medians; time is simulated. Made by <code>fleetloop sim</code>."
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f"{''.join(body)}<footer>{foot}</footer></main></body></html>\n"
    )


def _header(scenario: Scenario, passed: bool | None, verdict: str) -> str:
    look = {True: "good", False: "bad", None: "good"}[passed]
    about = f"<p>{escape(scenario.about)}</p>" if scenario.about else ""
    badge = f'<span class="verdict {look}">{escape(verdict)}</span>'
    return f"<header><h1>{escape(scenario.title)}</h1>{about}{badge}</header>"


def _figures(reports: Sequence[Report]) -> str:
    events = sum(report.events for report in reports)
    virtual_s, wall_s = sum(report.virtual_s for report in reports), sum(report.wall_s for report in reports)
    faults = sum(sum(report.faults.values()) for report in reports)
    cards = [
        (f"{reports[0].devices:,}", "devices"),
        (f"{len(reports):,}", "seeds" if len(reports) > 1 else f"seed ({reports[0].seed})"),
        (_span(virtual_s / len(reports)), "of virtual time each"),
        (f"× {virtual_s / wall_s:,.0f}" if wall_s else "–", "faster than the clock"),
        (f"{events:,}", "events"),
        (f"{faults:,}", "faults, messages lost or doubled"),
        (_settled(reports), "until hub and devices agree"),
    ]
    return (
        '<div class="figures">'
        + "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in cards)
        + "</div>"
    )


def _plots(reports: Sequence[Report]) -> str:
    until_s = max(_end(report) for report in reports)
    names = [rollout.name for rollout in reports[0].rollouts]
    found = [
        lines("Devices that committed", _by_rollout(reports, names, _commits, until_s), until_s, Axis()),
        lines(
            "Exposure: devices that were assigned the version",
            _by_rollout(reports, names, _exposure, until_s),
            until_s,
            Axis(),
        ),
        lines(
            "Convergence: devices that do as desired, and that are online",
            [_sampled(reports, "do as desired", _agreeing, until_s), _sampled(reports, "online", _online, until_s)],
            until_s,
            Axis("%", 100.0),
        ),
        lines(
            "Bytes per device",
            [_sampled(reports, "device", lambda one, _: one.device_bytes, until_s)],
            until_s,
            Axis("B"),
        ),
        lines(
            "Bytes of the hub",
            [_sampled(reports, "hub", lambda one, _: one.hub_bytes, until_s)],
            until_s,
            Axis("B"),
        ),
        bars("Outcomes by rollout", [(name, _parts(reports, name)) for name in names]),
    ]
    found += [learning.accuracy(reports, until_s)] if reports[0].federated else []
    marks = lanes(f"What happened (seed {reports[0].seed})", reports[0].marks, until_s)
    return f'<h2>Over time</h2><div class="plots">{"".join(found)}</div><div style="margin-top:16px">{marks}</div>'


def _expectations(reports: Sequence[Report]) -> str:
    rows = []
    for index, one in enumerate(reports[0].expectations):
        mine = [report.expectations[index] for report in reports if index < len(report.expectations)]
        met = sum(result.passed for result in mine)
        worst = next((result for result in mine if not result.passed), one)
        look = "good" if met == len(reports) else "bad"
        told = "met" if len(reports) == 1 and met else "not met" if len(reports) == 1 else f"{met} of {len(reports)}"
        cells = f"<td>{escape(one.name)}</td><td><small>{escape(worst.detail)}</small></td>"
        rows.append(f"<tr><td class='{look}'>{told}</td>{cells}</tr>")
    return (
        f"<div class='sheet'><table><tr><th>Met</th><th>Expectation</th><th>Seen</th></tr>{''.join(rows)}</table></div>"
    )


def _rollouts(reports: Sequence[Report]) -> str:
    rows = []
    for index, one in enumerate(reports[0].rollouts):
        mine = [report.rollouts[index] for report in reports if index < len(report.rollouts)]
        states = ", ".join(dict.fromkeys(run.state for run in mine))
        cells = [
            f"<td>{escape(one.name)}</td><td>{escape(one.model)} {one.version}</td>",
            f"<td>{escape(states)}<br><small>{escape(one.reason)}</small></td>",
            _number(_middle([run.assigned for run in mine]), one.planned),
            _number(_middle([run.committed for run in mine]), one.planned),
            _number(_middle([run.failed for run in mine]), one.planned),
            f"<td class='number'>{_span(_middle([run.seconds for run in mine]))}</td>",
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = _head(("Rollout", "Version", "State"), ("Assigned", "Committed", "Failed", "Time"))
    return f"<div class='sheet'><table>{head}{''.join(rows)}</table></div>"


def _seeds(reports: Sequence[Report]) -> str:
    rows = "".join(
        f"<tr><td class='{'good' if report.passed else 'bad'}'>{report.seed}</td>"
        f"<td class='number'>{_span(report.virtual_s)}</td><td class='number'>{report.wall_s:.1f} s</td>"
        f"<td class='number'>{report.events:,}</td><td class='number'><code>{report.digest[:24]}</code></td></tr>"
        for report in reports
    )
    head = _head(("Seed",), ("Virtual time", "Took", "Events", "Digest"))
    table = f"<div class='sheet'><table>{head}{rows}</table></div>"
    return f"<details><summary>Every run, with the digest that repeats it</summary>{table}</details>"


def _policies(comparison: Comparison) -> str:
    rows = []
    for one in comparison.figures:
        cells = [f"<td class='number'>{_interval(value)}</td>" for value in (one.exposed, one.harmed)]
        cells += [f"<td class='number'>{_span(one.seconds.mean)}</td>"]
        cells += [f"<td class='number'>{rate.count} of {rate.of}</td>" for rate in (one.false_halts, one.missed_halts)]
        rows.append(f"<tr><td>{escape(one.policy)}</td>{''.join(cells)}</tr>")
    head = _head(("Policy",), ("Exposed", "Harmed", "Time", "False halts", "Missed halts"))
    return f"<div class='sheet'><table>{head}{''.join(rows)}</table></div>"


def _differences(comparison: Comparison) -> str:
    rows = [
        f"<tr><td>{escape(one.policy)}</td><td>{one.figure}</td><td class='number'>{_interval(one.estimate, '+')}</td>"
        f"<td><small>{'' if one.sure else 'may be chance'}</small></td></tr>"
        for one in comparison.differences
    ]
    head = _head(("Policy", "Figure"), ("Difference, 95 % interval", ""))
    return f"<div class='sheet'><table>{head}{''.join(rows)}</table></div>"


def _head(words: Sequence[str], numbers: Sequence[str]) -> str:
    cells = [f"<th>{name}</th>" for name in words] + [f"<th class='number'>{name}</th>" for name in numbers]
    return f"<tr>{''.join(cells)}</tr>"


# From reports to curves.


def _commits(rollout: RolloutReport) -> Curve:
    return rollout.commits


def _exposure(rollout: RolloutReport) -> Curve:
    return rollout.exposure


def _agreeing(samples: Samples, report: Report) -> Sequence[float]:
    return [100 * share for share in samples.agreeing]


def _online(samples: Samples, report: Report) -> Sequence[float]:
    return [100 * count / max(1, report.devices) for count in samples.online]


def _by_rollout(
    reports: Sequence[Report], names: Sequence[str], pick: Callable[[RolloutReport], Curve], until_s: float
) -> list[Line]:
    found = []
    for name in names:
        curves = [pick(one) for report in reports for one in report.rollouts if one.name == name]
        found.append(Line(name, band(curves, until_s)))
    return found


def _sampled(
    reports: Sequence[Report], name: str, pick: Callable[[Samples, Report], Sequence[float]], until_s: float
) -> Line:
    curves = [Curve(at_s=one.samples.at_s, values=tuple(pick(one.samples, one))) for one in reports]
    return Line(name, band(curves, until_s))


def _summed(report: Report, pick: Callable[[RolloutReport], Curve], names: Collection[str]) -> Curve:
    """These rollouts of a run in one curve, in time from when the first of them began."""
    rollouts = [one for one in report.rollouts if one.name in names]
    began_s = min((one.began_s for one in rollouts), default=0.0)
    steps = sorted(
        (at_s - began_s, value - before)
        for curve in map(pick, rollouts)
        for at_s, value, before in zip(curve.at_s, curve.values, (0.0, *curve.values), strict=False)
    )
    values = tuple(accumulate(more for _, more in steps))
    return Curve(at_s=tuple(at_s for at_s, _ in steps), values=values)


def _parts(reports: Sequence[Report], name: str) -> list[Part]:
    runs = [one for report in reports for one in report.rollouts if one.name == name]
    count = max(1, len(runs))
    outcomes = sorted({outcome for run in runs for outcome in run.outcomes})
    means = {outcome: sum(run.outcomes.get(outcome, 0) for run in runs) / count for outcome in outcomes}
    parts = [Part("succeeded", means.get("succeeded", 0.0), "good")]
    parts += [Part(one.replace("_", " "), means[one], "bad") for one in outcomes if one in FAILED]
    parts += [Part(one, means[one], "other") for one in outcomes if one not in (*FAILED, "succeeded")]
    rest = sum(run.planned for run in runs) / count - sum(means.values())
    return [*parts, Part("not ended or not asked", max(0.0, rest), "none")]


def _end(report: Report) -> float:
    return report.samples.at_s[-1] if report.samples.at_s else 1.0


def _settled(reports: Sequence[Report]) -> str:
    found = [report.settled_s for report in reports if report.settled_s is not None]
    return _span(max(found)) if len(found) == len(reports) else "never"


def _number(value: float, of: int) -> str:
    return f"<td class='number'>{value:,.0f} <small>of {of:,}</small></td>"


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _interval(one: Estimate, sign: str = "") -> str:
    return f"{one.mean:{sign},.1f} <small>[{one.low:{sign},.1f}, {one.high:{sign},.1f}]</small>"


def _span(seconds: float) -> str:
    for unit, size_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 1.5 * size_s:
            return f"{seconds / size_s:.3g} {unit}"
    return f"{seconds:.3g} s"
