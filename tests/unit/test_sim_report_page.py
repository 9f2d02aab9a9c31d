"""The HTML report and the comparison of policies, from made-up runs."""

import re

import msgspec
import pytest

from simulator.comparison import as_comparison_lines, compare
from simulator.page.bands import band
from simulator.page.document import write_comparison, write_report
from simulator.report import (
    Curve,
    Expectation,
    FederatedReport,
    Mark,
    Report,
    RolloutReport,
    RoundFigures,
    Samples,
    as_json,
    as_lines,
    as_table,
)
from simulator.scenario.document import Scenario
from simulator.scenario.reading import parse

SCENARIO: Scenario = parse(
    b"""
title: "<script>alert(1)</script> & more"
timeline: [{do: publish}, {do: roll_out, name: only}]
expect: [{expect: rollout_ends, rollout: only, state: succeeded}]
""",
    "x.yaml",
)


def rollout(state: str, assigned: int, seconds: float, *, good: bool) -> RolloutReport:
    """A rollout to ten devices, of which half the assigned ones committed."""
    moments = tuple(seconds * (number + 1) / assigned for number in range(assigned))
    curve = Curve(at_s=moments, values=tuple(float(number + 1) for number in range(assigned)))
    return RolloutReport(
        name="only", model="m", version=2, good=good, state=state, reason="because <b>", waves_opened=1, planned=10,
        assigned=assigned, committed=assigned // 2, failed=assigned - assigned // 2, harmed=0 if good else assigned,
        began_s=0.0, seconds=seconds, outcomes={"succeeded": assigned // 2, "rejected": assigned - assigned // 2},
        reasons={}, exposure=curve, commits=curve,
    )  # fmt: skip


def report(seed: int, one: RolloutReport, policy: str = "", *, passed: bool = True) -> Report:
    """A run with one rollout."""
    return Report(
        scenario=SCENARIO.title, policy=policy, seed=seed, devices=10, passed=passed,
        expectations=(Expectation(name="it ends", passed=passed, detail="<i>so</i>"),), rollouts=(one,),
        marks=(Mark(at_s=1.0, kind="fault", what="power cut"), Mark(at_s=0.0, kind="step", what="publish")),
        samples=Samples(at_s=(0.0, 50.0, 100.0), online=(0, 10, 10), agreeing=(1.0, 0.5, 1.0),
                        device_bytes=(0.0, 2e6, 3e6), hub_bytes=(0, 5, 9)),
        settled_s=3.0, virtual_s=100.0, wall_s=0.5, events=9, published=1, delivered=1, transactions=1,
        faults={"power_cuts": 1}, digest="ab" * 32,
    )  # fmt: skip


def test_federated_runs_are_drawn_and_told_in_figures() -> None:
    """Accuracy round by round as a plot, before and after in the table, refusals counted; names are no markup."""
    curve = Curve(at_s=(10.0, 20.0, 30.0), values=(20.0, 60.0, 90.0))
    rounds = tuple(RoundFigures(number=number, clients=8, failed=2, accuracy=0.4 * number) for number in (1, 2))
    learnt = FederatedReport(
        name="<b>learn", model="m", version=1, strategy="FedMedian", state="succeeded", reason="", devices=10,
        began_s=5.0, seconds=40.0, before=0.2, after=0.9, result_version=2, rounds=rounds,
        reasons={"wrong shape": 3}, accuracy=curve,
    )  # fmt: skip
    run = msgspec.structs.replace(report(1, rollout("succeeded", 4, 90.0, good=True)), federated=(learnt,))
    page = write_report(SCENARIO, [run])
    assert "Federated accuracy, round by round" in page
    for said in ("&lt;b&gt;learn", "FedMedian, 10 devices", "3 × wrong shape", "20.0 %", "90.0 %"):
        assert said in page
    assert any(line.startswith("<b>learn: 10 devices learn from m version 1 by FedMedian") for line in as_lines(run))
    told = msgspec.json.decode(as_json([run]))["runs"][0]["federated"][0]
    assert [one["accuracy"] for one in told["rounds"]] == [0.4, 0.8]


def test_the_page_stands_alone_and_takes_nothing_for_markup() -> None:
    """No script, no request to anywhere, and what scenario or devices say is text."""
    runs = [report(seed, rollout("succeeded", 4 + seed, 90.0, good=True), passed=seed > 1) for seed in (1, 2, 3)]
    page = write_report(SCENARIO, runs)
    assert "<script" not in page
    assert not re.search(r"(src|href)=|url\(|@import|https?://", page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page
    assert "&lt;i&gt;so&lt;/i&gt;" in page
    assert "expectations met in 2 of 3 runs" in page
    for title in ("Devices that committed", "Exposure", "Convergence", "Bytes per device", "Outcomes", "What happened"):
        assert title in page


def test_the_band_holds_the_runs_and_the_line_is_their_median() -> None:
    """Curves keep their value until the next moment."""
    curves = [Curve(at_s=(10.0,), values=(float(top),)) for top in (1, 2, 3)]
    found = band(curves, until_s=20.0)
    assert (found.middle[0], found.middle[-1]) == (0.0, 2.0)
    assert 1.0 <= found.low[-1] < 2.0 < found.high[-1] <= 3.0
    before = max(at_s for at_s, value in zip(found.at_s, found.middle, strict=True) if value == 0)
    assert before < 10.0 < before + 0.2


def test_policies_are_compared_seed_by_seed() -> None:
    """A policy that always reaches three devices more, from runs that differ among themselves much more than that."""
    reports = [report(seed, rollout("halted", 1 + 5 * seed, 60.0, good=False), "careful") for seed in (0, 1)]
    reports += [report(seed, rollout("succeeded", 4 + 5 * seed, 60.0, good=False), "bold") for seed in (0, 1)]
    found = compare(SCENARIO, ["careful", "bold"], reports)
    exposed = next(one for one in found.differences if one.figure == "exposed")
    assert (exposed.estimate.low, exposed.estimate.mean, exposed.estimate.high) == (3.0, 3.0, 3.0)
    assert exposed.sure
    careful, bold = found.figures
    assert (careful.missed_halts.count, bold.missed_halts.count, bold.missed_halts.of) == (0, 2, 2)
    assert careful.exposed.low < careful.exposed.mean < careful.exposed.high
    seconds = next(one for one in found.differences if one.figure == "seconds")
    assert not seconds.sure
    assert "bold against careful: exposed +3.0 [+3.0, +3.0]" in as_comparison_lines(found)
    assert "Devices reached" in write_comparison(SCENARIO, found, reports)


def test_a_good_version_that_is_halted_is_a_false_halt() -> None:
    """It counts among the rollouts of good versions only."""
    reports = [report(1, rollout("halted", 2, 5.0, good=True), name) for name in ("a", "b")]
    first = compare(SCENARIO, ["a", "b"], reports).figures[0]
    assert (first.false_halts.count, first.false_halts.of, first.missed_halts.of) == (1, 1, 0)


@pytest.mark.parametrize("failed", [0, 1])
def test_several_seeds_make_a_table(failed: int) -> None:
    """How often each expectation was met, and what failed first."""
    runs = [report(seed, rollout("succeeded", 4, 9.0, good=True), passed=seed >= failed) for seed in range(2)]
    lines = as_table(runs)
    assert f"{'ok  ' if not failed else 'FAIL'} it ends: in {2 - failed} of 2 seeds" in lines
    assert ("seed 0: it ends: <i>so</i>" in lines) == bool(failed)
    assert f'"passed":{"false" if failed else "true"}' in as_json(runs)
