"""Scenario files: what is wrong is said with file, line and field; the published schema is theirs."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.durations import nanoseconds, written
from simulator.faults.kinds import BrokerKill, CutConnections, HubKill, PowerCut
from simulator.options import adjusted
from simulator.scenario.document import Scenario
from simulator.scenario.population import DeviceClass, Population
from simulator.scenario.reading import SHIPPED, find, parse, parse_policy, shipped
from simulator.scenario.schema import schema
from simulator.settings import Settings
from wire.errors import MalformedError
from wire.ports import SECOND

FILE = """\
title: Something
population:
  devices: 10
  classes:
    - {name: watch, weight: 4, network: home}
    - {name: hub, count: 1}
networks:
  - name: home
    loss: 0.02
timeline:
  - {do: publish}
  - do: roll_out
    name: first
    plan:
      waves: [{count: 1}, {percent: 100}]
      gates: [{expression: commit_rate >= 99 %}]
  - {do: pause, rollout: first, since: first}
faults:
  - {kind: hub_kill, since: first}
expect:
  - {expect: rollout_ends, rollout: first, state: paused}
"""

NINE = ", ".join(f"k{number}: 1" for number in range(9))
BOMB = f"a: &a {{{NINE}}}\n" + "".join(
    f"{one}: &{one} [{', '.join([f'*{before}'] * 9)}]\n" for before, one in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = BOMB.replace("[", "{<<: [").replace("]", "]}")


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("loss: 0.02", "loss: 2", "x.yaml:9: networks[0].loss: Expected `float` <= 1.0"),
        ("loss: 0.02", "los: 0.02", "x.yaml:9: networks[0].los: there is no such field"),
        ("devices: 10", "devices: ten", "x.yaml:3: population.devices: Expected `int`, got `str`"),
        ("network: home", "network: hom", "x.yaml:5: population.classes[0].network: there is no network 'hom'"),
        ("percent: 100", "precent: 100", "x.yaml:15: timeline[1].plan.waves[1].precent: there is no such field"),
        ("percent: 100", "percent: -5", "x.yaml:15: timeline[1].plan.waves[1].percent: Expected `float` > 0"),
        ("waves: [{count: 1}, {percent: 100}]", "waves: []", "x.yaml:15: timeline[1].plan.waves: Expected `array`"),
        ("waves: [{", "rate: {per_minute: 0}\n      waves: [{", "x.yaml:15: timeline[1].plan.rate.per_minute:"),
        ("{count: 1}, {", "{count: 1, percent: 2}, {", "x.yaml:15: timeline[1].plan.waves[0]: give either"),
        ("commit_rate", "comit_rate", "x.yaml:16: timeline[1].plan.gates[0].expression: column 1: there is no fact"),
        ("rollout: first, since: first", "rollout: last", "x.yaml:17: timeline[2].rollout: there is no rollout"),
        ("rollout: first, since: first", "rollout: first, since: last", "x.yaml:17: timeline[2].since: there is no"),
        ("    name: first\n", "", "x.yaml:12: timeline[1]: a roll_out needs a name"),
        ("kind: hub_kill", "kind: hub_kil", "x.yaml:19: faults[0].kind: Invalid value 'hub_kil'"),
        ("since: first}\nexpect", "at: 5}\nexpect", "x.yaml:19: faults[0].at: Expected `str`, got `int`"),
        ("since: first}\nexpect", "at: 5 s}\nexpect", "x.yaml:19: faults[0].at: a span of time is wanted, like 90s"),
        ("state: paused", "state: running", "x.yaml:21: expect[0].state: a scenario ends when"),
        ("title: Something", "title: Something\ntitle: Else", "x.yaml:2: title: it is there twice"),
        ("  devices: 10", "  devices: [", "x.yaml:5: "),
        ("{name: hub, count: 1}", "{name: watch}", "x.yaml:6: population.classes[1].name: there is another 'watch'"),
        (FILE, "", "x.yaml: the file is empty"),
        ("devices: 10", "devices: 99999999999", "x.yaml:3: population.devices: Expected `int` <= 1000000"),
        ("since: first}\nexpect", "times: 1000000000}\nexpect", "x.yaml:19: faults[0].times: Expected `int` <= 1"),
        ("title: Something", "title: \0", "x.yaml: unacceptable character #x0000"),
        ("devices: 10", "devices: " + "9" * 5000, "x.yaml: a number is too long"),
        ("title: Something", "title: &a [*a]", "x.yaml:1: title[0]: an alias of what it is in"),
        (FILE, "[" * 20_000, "x.yaml: it is nested too deeply"),
        (FILE, BOMB, "x.yaml:6: f: with its aliases it has more than 100000 fields"),
        (FILE, MERGES, "x.yaml:6: f.<<: with its aliases it has more than 100000 fields"),
    ],
)
def test_a_mistake_is_said_with_line_and_field(good: str, bad: str, said: str) -> None:
    """Also in plans, whose fields belong to the hub, and in names that refer to something else."""
    assert good in FILE
    with pytest.raises(MalformedError) as caught:
        parse(FILE.replace(good, bad, 1).encode(), "x.yaml")
    assert str(caught.value).startswith(said)


def test_what_is_merged_may_be_said_anew() -> None:
    """A class like another but for its name; only what a mapping itself says twice is a mistake."""
    text = FILE.replace("- {name: watch", "- &watch {name: watch").replace("{name: hub", "{<<: *watch, name: hub")
    watch, hub = parse(text.encode(), "x.yaml").population.classes
    assert (watch.name, watch.network, hub.name, hub.network, hub.count) == ("watch", "home", "hub", "home", 1)


def test_words_are_read_as_yaml_1_2_does() -> None:
    """`off` and `on` are words, 22:30 is a time and no number of minutes."""
    text = FILE.replace("title: Something", "title: off\nstarts: 22:30")
    text = text.replace("kind: hub_kill, since: first", "kind: power_cut, off: 5s")
    scenario = parse(text.encode(), "x.yaml")
    assert (scenario.title, scenario.starts) == ("off", "22:30")
    assert scenario.faults[0] == PowerCut(off="5s")


def test_what_ships_can_be_read_and_the_schema_is_in_step() -> None:
    """`fleetloop sim schema > simulator/scenarios/scenario.schema.json` brings it there."""
    assert (SHIPPED / "scenario.schema.json").read_text() == schema()
    names = list(shipped())
    assert len(names) >= 11
    for name in names:
        assert find(name).expect


def test_the_schema_knows_what_the_reader_refuses() -> None:
    """Unknown fields, also in plans; and every kind of step, fault and expectation is in it."""
    made = msgspec.json.decode(schema())["$defs"]
    assert made["Scenario"]["additionalProperties"] is False
    assert made["Plan"]["additionalProperties"] is False
    assert {"RollOut", "RotateKeys", "PowerCut", "BrokerKill", "Exposed", "Converged"} <= set(made)


def test_an_unknown_name_lists_what_there_is() -> None:
    """Neither a file nor a scenario that ships."""
    with pytest.raises(MalformedError, match=r"no-such: No such file.*bad-canary.*wrong-on-one-class"):
        find("no-such")


@given(st.integers(1, 500), st.lists(st.floats(0.1, 50), min_size=1, max_size=6), st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_classes_share_the_fleet(devices: int, weights: list[float], fixed: int) -> None:
    """Nobody is lost, fixed numbers stay, each class has somebody if there are enough, shares are within one device."""
    classes = tuple(DeviceClass(name=f"c{number}", weight=weight) for number, weight in enumerate(weights))
    population = Population(devices=devices, classes=(*classes, DeviceClass(name="fixed", count=fixed or 1)))
    sizes = population.sizes()
    rest = max(0, devices - (fixed or 1))
    assert sizes["fixed"] == (fixed or 1)
    assert sum(sizes.values()) == rest + sizes["fixed"]
    if rest >= len(weights):
        assert min(sizes[one.name] for one in classes) >= 1


@given(st.integers(0, 10**7))
@settings(deadline=None, max_examples=60)
def test_a_span_is_written_as_it_is_read(milliseconds: int) -> None:
    """To the millisecond."""
    assert nanoseconds(written(milliseconds * 10**6)) == milliseconds * 10**6


def test_spans_have_units() -> None:
    """Days to milliseconds, with fractions."""
    assert nanoseconds("1.5h") == 5400 * SECOND
    assert [written(nanoseconds(one)) for one in ("90s", "120s", "36h", "500ms", "48h", "0s")] == [
        "90s", "2m", "36h", "500ms", "2d", "0s",
    ]  # fmt: skip


def test_options_replace_what_the_file_says() -> None:
    """So many power cuts, broken connections and kills, shared out over the rollouts; networks lose so much."""
    options = Settings(devices=7, loss=0.3, reboots=5, reconnects=0, kills=3)
    scenario = adjusted(find("happy-rollout"), options)
    assert scenario.population.devices == 7
    assert {one.loss for one in scenario.networks} == {0.3}
    counted = {kind: _times(scenario, kind) for kind in (PowerCut, CutConnections)}
    assert counted == {PowerCut: 5, CutConnections: 0}
    assert _times(scenario, HubKill) + _times(scenario, BrokerKill) == 3
    assert adjusted(find("happy-rollout"), Settings()).faults == find("happy-rollout").faults


@pytest.mark.parametrize("devices", [4, 6])
def test_a_size_that_counted_classes_contradict_is_refused(devices: int) -> None:
    """The option, as the file: five of one class are neither four nor six devices."""
    text = FILE.replace("  devices: 10", "  devices: 5").replace("weight: 4", "count: 4")
    scenario = parse(text.encode(), "x.yaml")
    assert adjusted(scenario, Settings(devices=5)).population.devices == 5
    with pytest.raises(MalformedError, match=f"--devices {devices}: .* already make 5"):
        adjusted(scenario, Settings(devices=devices))


def _times(scenario: Scenario, kind: type) -> int:
    return sum(fault.times for fault in scenario.faults if isinstance(fault, kind))


def test_a_policy_takes_the_place_of_the_plan() -> None:
    """Of the rollouts that it names; in a file of its own it is called like the file."""
    scenario = find("wrong-on-one-class")
    policy = parse_policy(b"plan: {waves: [{percent: 100}], gates: []}\nrollouts: [second]", "dir/Bold.yaml")
    assert policy.name == "bold"
    plans = {step.name: step.plan for step in scenario.under(policy).timeline if hasattr(step, "plan")}
    assert plans["second"] == policy.plan
    assert plans["first"] == next(step.plan for step in scenario.timeline if step.name == "first")  # type: ignore[union-attr]
    with pytest.raises(MalformedError, match=r"bold.yaml:1: plan.waves\[0\].percnt: there is no such field"):
        parse_policy(b"plan: {waves: [{percnt: 100}]}", "bold.yaml")
