"""The federated run in figures, and the options of its curve (the one chart of the page)."""

from typing import Any

from cloud.service.overview.shapes import FederatedView, Overview, RoundView
from cloud.web.figures import NOTHING, size
from cloud.web.markup import Markup, empty, tag

ACCENT, TEAL, MUTED, LINE = "#4250c8", "#14967d", "#6b7484", "#e4e7ec"


def render(overview: Overview) -> Markup:
    """Heading, figures and verdict; the chart follows in the same box."""
    hint = "Devices train on what they saw; only weights travel. Accuracy is the mean over each device's own last 20 %."
    head = tag("header", tag("h2", "Learning on the devices"), tag("p", hint))
    if not overview.federated:
        return tag("div", head, empty("No federated run yet."))
    run = overview.federated[-1]
    verdict = run.reason or run.verdict
    closing = tag("p", verdict, class_="reason") if verdict else None
    return tag(
        "div", head, tag("span", run.state.replace("_", " "), class_=f"state {run.state}"), _figures(run), closing
    )


def _figures(run: FederatedView) -> Markup:
    rounds = [r for r in run.rounds if r.round > 0]  # round 0 only evaluates what the run starts from
    figures = (
        (f"{rounds[-1].round if rounds else 0} / {run.rounds_planned}", "rounds"),
        (str(run.clients), "devices train"),
        (run.strategy, "strategy"),
        (_mean(rounds, "bytes_down"), "down per round"),
        (_mean(rounds, "bytes_up"), "up per round"),
        (f"{sum(r.seconds for r in rounds) / len(rounds):.1f} s" if rounds else NOTHING, "per round"),
    )
    return tag(
        "div",
        *(tag("div", tag("strong", value), tag("span", name), class_="figure") for value, name in figures),
        class_="figures small",
    )


def _mean(rounds: list[RoundView], field: str) -> str:
    return size(sum(getattr(r, field) for r in rounds) / len(rounds)) if rounds else NOTHING


def curve(overview: Overview) -> dict[str, Any]:
    """ECharts options: accuracy (left axis, 0 to 1) and training loss (right axis) by round of the newest run."""
    run = overview.federated[-1] if overview.federated else None
    rounds = run.rounds if run else ()
    accuracy = _accuracies(run) if run else []
    loss = [[r.round, round(r.loss, 4)] for r in rounds if r.loss is not None]
    return {
        "animationDuration": 300,
        "grid": {"left": 42, "right": 46, "top": 30, "bottom": 26},
        "legend": {
            "top": 0,
            "right": 0,
            "icon": "roundRect",
            "itemWidth": 14,
            "itemHeight": 3,
            "textStyle": {"color": MUTED},
        },
        "tooltip": {"trigger": "axis"},
        "xAxis": {
            "type": "value",
            "min": 0,
            "max": run.rounds_planned if run else 1,
            "minInterval": 1,
            "splitLine": {"show": False},
            "axisLine": {"lineStyle": {"color": LINE}},
            "axisTick": {"show": False},
            "axisLabel": {"color": MUTED},
        },
        "yAxis": [_axis("", 1.0), {**_axis("", None), "splitLine": {"show": False}}],
        "series": [_line("accuracy", accuracy, TEAL, 0), _line("training loss", loss, "#b9c0cc", 1)],
    }


def _accuracies(run: FederatedView) -> list[list[float]]:
    """From what the run starts from (round 0) over the evaluated rounds to what it ended with."""
    points = {r.round: r.accuracy for r in run.rounds}
    points.setdefault(0, run.accuracy_before)
    if run.accuracy_after is not None and run.rounds:
        points[run.rounds[-1].round] = run.accuracy_after
    return [[number, round(value, 4)] for number, value in sorted(points.items()) if value is not None]


def _axis(name: str, top: float | None) -> dict[str, Any]:
    return {
        "type": "value",
        "name": name,
        "min": 0,
        "max": top,
        "axisLabel": {"color": MUTED},
        "axisLine": {"show": False},
        "axisTick": {"show": False},
        "splitLine": {"lineStyle": {"color": LINE}},
    }


def _line(name: str, data: list[list[float]], colour: str, axis: int) -> dict[str, Any]:
    width = 3 if axis == 0 else 1.5
    return {
        "name": name,
        "type": "line",
        "data": data,
        "yAxisIndex": axis,
        "smooth": 0.2,
        "symbolSize": 5 if axis == 0 else 0,
        "showSymbol": axis == 0,
        "lineStyle": {"width": width, "color": colour},
        "itemStyle": {"color": colour},
    }
