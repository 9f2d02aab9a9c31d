"""Looks at federated runs in the hub's database: whether they are at rest, how they went, what was expected of them."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, assert_never

from sqlalchemy import Row, select

from cloud.tables import federated_rounds, federated_runs, job_events, jobs
from simulator.device import BrokenPromiseError
from simulator.fleet import Fleet
from simulator.observer import Observer
from simulator.report import Curve, Expectation, FederatedReport, RoundFigures
from simulator.scenario.expectations import Federated, FederatedAccuracy, FederatedEnds, UpdatesRefused

UNDER_WAY: Final = ("running", "deriving")
MOST_REASONS: Final = 6
_NUMBER: Final = re.compile(r" -?\d\S*")
Counted = Callable[[str, Sequence[str], UpdatesRefused], Expectation]
"""(what, devices of which it is so, expectation) -> was it so of as many as were expected?"""


class Federation:
    """The federated runs of one fleet."""

    def __init__(self, fleet: Fleet, observer: Observer) -> None:
        self._fleet = fleet
        self._observer = observer

    def under_way(self, run: str | None = None) -> list[str]:
        """Runs that have not ended: all, or this one."""
        query = select(federated_runs.c.id).where(federated_runs.c.state.in_(UNDER_WAY))
        if run is not None:
            query = query.where(federated_runs.c.id == run)
        return self._fleet.hub.look(lambda conn: list(conn.execute(query.order_by(federated_runs.c.id)).scalars()))

    def resting(self, run: str) -> tuple[int, bool, int]:
        """How many rounds are done, is it over, how many are planned?"""
        row = self._run(run)
        planned = 0 if row is None else int(row.request["rounds"])
        return len(self._rounds(run)), row is not None and row.state not in UNDER_WAY, planned

    def reports(self) -> tuple[FederatedReport, ...]:
        """All runs, as they began."""
        query = select(federated_runs).order_by(federated_runs.c.created_ns, federated_runs.c.id)
        return tuple(map(self._report, self._fleet.hub.look(lambda conn: list(conn.execute(query)))))

    def check(self) -> None:
        """Raises BrokenPromiseError if a device counts more of its updates as taken than were."""
        for problem in counted_too_often(self._fleet):
            raise BrokenPromiseError(problem)

    def judge(self, one: Federated, counted: Counted) -> Expectation:
        """Is it so?"""
        report = next((report for report in self.reports() if report.name == one.run), None)
        match one:
            case FederatedEnds():
                return _ends(one, report)
            case FederatedAccuracy():
                return _accuracy(one, report)
            case UpdatesRefused():
                what = f"in {one.run}, an update does not count" + (f" ({one.reason})" if one.reason else "")
                return counted(what, self._refused(one), one)
            case _:
                assert_never(one)

    def _refused(self, one: UpdatesRefused) -> list[str]:
        failures = [failure for row in self._rounds(one.run) for failure in row.failures]
        return sorted({failure["device"] for failure in failures if one.reason in failure["reason"]})

    def _run(self, run: str) -> Row[Any] | None:
        query = select(federated_runs).where(federated_runs.c.id == run)
        return self._fleet.hub.look(lambda conn: conn.execute(query).one_or_none())

    def _rounds(self, run: str) -> list[Row[Any]]:
        query = select(federated_rounds).where(federated_rounds.c.run == run).order_by(federated_rounds.c.round)
        return self._fleet.hub.look(lambda conn: list(conn.execute(query)))

    def _report(self, row: Row[Any]) -> FederatedReport:
        rounds, told = self._rounds(row.id), self._told(row.id)
        groups = row.verdict["groups"] if row.verdict else []
        reasons = Counter(_kind_of(failure["reason"]) for one in rounds for failure in one.failures)
        evaluated = {event["when"]: event["accuracy"] for _, event in told if event.get("event") == "evaluation"}
        end_ns = row.finished_ns or self._fleet.world.clock.now_ns()
        return FederatedReport(
            name=row.id,
            model=row.model,
            version=row.version,
            strategy=row.request["strategy"],
            state=row.state,
            reason=row.reason,
            devices=len(row.devices),
            began_s=self._observer.since(row.created_ns),
            seconds=(end_ns - row.created_ns) / 1e9,
            before=evaluated.get("before"),
            after=groups[0]["after"] if groups else None,
            result_version=row.result_version,
            rounds=tuple(
                RoundFigures(number=one.round, clients=one.clients, failed=len(one.failures), accuracy=one.eval_acc)
                for one in rounds
            ),
            reasons=dict(reasons.most_common(MOST_REASONS)),
            accuracy=self._curve(told),
        )

    def _told(self, run: str) -> list[tuple[int, dict[str, Any]]]:
        """Moment and event of everything that its aggregators said."""
        query = select(job_events.c.at_ns, job_events.c.event).join(jobs, jobs.c.id == job_events.c.job)
        mine = query.where(jobs.c.federated_run == run).order_by(job_events.c.at_ns, job_events.c.id)
        return self._fleet.hub.look(lambda conn: [(row.at_ns, row.event) for row in conn.execute(mine)])

    def _curve(self, told: Sequence[tuple[int, dict[str, Any]]]) -> Curve:
        """Accuracy as the devices measured it, in percent. An aggregator that was killed says it again."""
        points: dict[object, tuple[float, float]] = {}
        for at_ns, event in told:
            accuracy = event.get("accuracy", event.get("eval_acc"))
            if accuracy is not None:
                points.setdefault(event.get("when", event.get("round")), (self._observer.since(at_ns), 100 * accuracy))
        ordered = sorted(points.values())
        return Curve(at_s=tuple(at_s for at_s, _ in ordered), values=tuple(value for _, value in ordered))


def counted_too_often(fleet: Fleet) -> Iterator[str]:
    """Devices that count more of their updates as taken than were."""
    taken = fleet.hub.learning.accepted()
    for device in fleet.devices:
        counted = device.record().updates_accepted
        if counted > taken.get(device.name, 0):
            yield f"{device.name} counts {counted} of its updates as taken, of which {taken.get(device.name, 0)} were"


def _ends(one: FederatedEnds, report: FederatedReport | None) -> Expectation:
    name = f"federated run {one.run} is {one.state}" + (f" after {one.rounds} rounds" if one.rounds else "")
    if report is None:
        return Expectation(name=name, passed=False, detail="it was never begun")
    said = f"{report.state} after {len(report.rounds)} rounds, {report.seconds:.0f} s"
    said += f": {report.reason}" if report.reason else ""
    enough = one.rounds is None or len(report.rounds) == one.rounds
    return Expectation(
        name=name, passed=report.state == one.state and one.reason in report.reason and enough, detail=said
    )


def _accuracy(one: FederatedAccuracy, report: FederatedReport | None) -> Expectation:
    bounds = [f"at least {one.at_least:.4g}"] if one.at_least else []
    bounds += [f"at most {one.at_most:.4g}"] if one.at_most < 1 else []
    name = f"federated run {one.run} comes to an accuracy of {' and '.join(bounds)}"
    measured = [figures.accuracy for figures in report.rounds if figures.accuracy is not None] if report else []
    found = report.after if report is not None and report.after is not None else next(reversed(measured), None)
    if found is None:
        return Expectation(name=name, passed=False, detail="nobody measured it")
    said = f"{found:.3f}" + (f", from {report.before:.3f}" if report is not None and report.before is not None else "")
    return Expectation(name=name, passed=one.at_least <= found <= one.at_most, detail=said)


def _kind_of(reason: str) -> str:
    """What differs from device to device does not make another reason."""
    return _NUMBER.sub("", reason.partition(":")[0])
