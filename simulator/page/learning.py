"""Federated runs in the report: accuracy over time, and a table of how they went."""

from collections.abc import Sequence
from html import escape

from simulator.page.bands import band
from simulator.page.plots import Axis, Line, lines
from simulator.report import FederatedReport, Report


def accuracy(reports: Sequence[Report], until_s: float) -> str:
    """A line for each federated run: each step is a round."""
    shown = [Line(name, band([run.accuracy for run in runs], until_s)) for name, runs in _by_name(reports).items()]
    return lines("Federated accuracy, round by round", shown, until_s, Axis("%", 100.0))


def table(reports: Sequence[Report]) -> str:
    """How they went, over all seeds."""
    rows = []
    for name, runs in _by_name(reports).items():
        head, states = runs[0], ", ".join(dict.fromkeys(run.state for run in runs))
        refused = "<br>".join(f"{count} × {escape(reason)}" for reason, count in head.reasons.items())
        rows.append(
            f"<tr><td>{escape(name)}</td><td>{escape(head.strategy)}, {head.devices} devices</td>"
            f"<td>{escape(states)}<br><small>{escape(head.reason)}</small></td><td><small>{refused}</small></td>"
            f"<td class='number'>{len(head.rounds)}</td><td class='number'>{_share(head.before)}</td>"
            f"<td class='number'>{_share(head.after)}</td></tr>"
        )
    words = "".join(f"<th>{name}</th>" for name in ("Run", "How", "State", "What did not count"))
    numbers = "".join(f"<th class='number'>{name}</th>" for name in ("Rounds", "Before", "After"))
    return f"<h2>Learning</h2><div class='sheet'><table><tr>{words}{numbers}</tr>{''.join(rows)}</table></div>"


def _by_name(reports: Sequence[Report]) -> dict[str, list[FederatedReport]]:
    found: dict[str, list[FederatedReport]] = {}
    for report in reports:
        for run in report.federated:
            found.setdefault(run.name, []).append(run)
    return found


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
