"""A fleet file against the fleet: what differs, what does not, and what a person has to decide."""

from typing import Any

import pytest

from fleetloop.console.fleet_export import document
from fleetloop.console.fleet_file import Present, difference, parse
from wire.errors import MalformedError

FILE = b"""
devices:
  p01: {labels: {hall: "3"}, federated: true}
  p02: {labels: {hall: "4"}}
rollouts:
  - model: watch
    version: 3
    selector: {hall: "3"}
    waves: [{count: 1}, {percent: 100}]
    gates: ["commit_rate >= 99 %"]
"""
FREE: dict[str, Any] = {"held_reason": "", "pins": []}
P01 = {"name": "p01", "labels": {"hall": "3"}, "federated": True, **FREE}
P02 = {"name": "p02", "labels": {"hall": "4"}, "federated": False, **FREE}
PIN = {"slot": "main", "model": "watch", "version": 2, "reason": "certified with 2"}


def rollout(version: int, state: str, **more: Any) -> dict[str, Any]:
    """A rollout as the API shows it."""
    place = {"id": "r1", "model": "watch", "slot": "main", "selector": {"hall": "3"}, "reason": "", "reverts": None}
    return {**place, "version": version, "state": state, **more}


def signs(devices: list[dict[str, Any]], rollouts: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What the file asks of such a fleet."""
    steps = difference(parse(FILE, "fleet.yaml"), Present([], devices, rollouts))
    return [(step.sign, step.name.partition(" ")[0]) for step in steps]


def test_an_empty_fleet_needs_everything() -> None:
    """Devices before rollouts."""
    assert signs([], []) == [("+", "p01"), ("+", "p02"), ("+", "watch:3")]


@pytest.mark.parametrize("state", ["running", "paused", "waiting_for_approval", "succeeded"])
def test_a_fleet_that_is_so_needs_nothing(state: str) -> None:
    """A rollout that goes on or went well is not started again."""
    assert signs([P01, P02], [rollout(2, "succeeded"), rollout(3, state)]) == []


def test_only_what_the_file_says_is_compared() -> None:
    """p02's federated is left as it is; a label that differs is shown with both values."""
    (step,) = difference(
        parse(FILE, "f"),
        Present([], [P01, P02 | {"labels": {"hall": "5", "x": ""}, "federated": True}], [rollout(3, "succeeded")]),
    )
    assert (step.sign, step.text, step.verb) == ("~", "labels=hall=5 x= -> labels=hall=4", "label")
    assert dict(step.body) == {"put": {"hall": "4"}, "drop": ["x"]}


@pytest.mark.parametrize(("version", "state"), [(3, "halted"), (3, "aborted"), (2, "running"), (2, "paused")])
def test_what_was_decided_otherwise_is_for_a_person(version: int, state: str) -> None:
    """A halted rollout is not forced, a running one of another version not overrun."""
    assert signs([P01, P02], [rollout(version, state)]) == [("!", "watch:3")]


@pytest.mark.parametrize(("version", "state"), [(2, "succeeded"), (2, "halted"), (4, "succeeded")])
def test_another_version_before_is_no_obstacle(version: int, state: str) -> None:
    """The newest rollout of the same place counts, whatever its number: going back is said in the file, too."""
    assert signs([P01, P02], [rollout(3, "succeeded"), rollout(version, state)]) == [("+", "watch:3")]


def test_rollouts_elsewhere_do_not_count() -> None:
    """Another selector, slot or model is another place."""
    others = [
        rollout(3, "succeeded", **{name: value}) for name, value in (("selector", {}), ("slot", "b"), ("model", "m"))
    ]
    assert signs([P01, P02], others) == [("+", "watch:3")]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"devicez: {}", "devicez"),
        (b"devices: {p01: {label: {}}}", "label"),
        (b"rollouts: [{model: m, version: x, waves: []}]", "int"),
        (b"rollouts: [{model: m, version: 1}]", "waves"),
        (b"[", "fleet.yaml"),
        (b"\xff", "fleet.yaml"),
        (b"!!python/object/apply:os.system ['true']", "fleet.yaml"),
    ],
)
def test_mistakes_are_named(text: bytes, word: str) -> None:
    """The field, and the file it is in; YAML runs nothing."""
    with pytest.raises(MalformedError, match=word):
        parse(text, "fleet.yaml")


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("federated: true", "federated: yes", "f:3: devices.p01.federated: Expected `bool | null`"),
        ("  p02: ", "  Press 07: ", "f:4: devices.Press 07: it cannot be a name: lower-case letters, digits"),
        ('p02: {labels: {hall: "4"}}', "p02: {label: {}}", "f:4: devices.p02.label: there is no such field"),
        ("    version: 3\n", "", "f:6: rollouts[0]: Object missing required field `version`"),
        ("version: 3", "version: 3\n    step_timeout: 9", "f:8: rollouts[0].step_timeout: there is no such field"),
        ("version: 3", "version: 3\n    step_timeout_s: 1e9", "f:8: rollouts[0].step_timeout_s: Expected `float` <="),
        ("{percent: 100}", "{percent: 101}", "f:9: rollouts[0].waves[1].percent: Expected `float` <= 100"),
        ("{percent: 100}", "{percent: 100, count: 2}", "f:9: rollouts[0].waves[1]: give either"),
        ("commit_rate", "comit_rate", "f:10: rollouts[0].gates[0].expression: column 1: there is no fact"),
        ('["commit', '[{false_halt: 2, expression: "x"}, "commit', "f:10: rollouts[0].gates[0].false_halt: Expected"),
    ],
)
def test_a_mistake_is_said_with_line_and_field(good: str, bad: str, said: str) -> None:
    """By the rules that the hub has for plans, before it is asked for anything."""
    text = FILE.decode()
    assert good in text
    with pytest.raises(MalformedError) as caught:
        parse(text.replace(good, bad, 1).encode(), "f")
    assert str(caught.value).startswith(said)


def test_a_revert_is_nobodys_wish() -> None:
    """What was aborted and taken back is for a person, though the revert's own rollout went well."""
    back = rollout(2, "succeeded", selector={}, reverts="r1")
    assert signs([P01, P02], [rollout(3, "aborted"), back]) == [("!", "watch:3")]
    back = rollout(2, "succeeded", reverts="r1")
    assert signs([P01, P02], [rollout(3, "aborted"), back]) == [("!", "watch:3")]


def asked(text: bytes, present: Present) -> list[tuple[str, str, str]]:
    """Sign, verb and text of what a file asks of such a fleet."""
    return [(step.sign, step.verb, step.text) for step in difference(parse(text, "f"), present)]


def test_groups_holds_and_pins_are_compared_field_by_field() -> None:
    """What comes, what changes, what goes; null and what is left out stay as they are."""
    held = P01 | {"held_reason": "in use", "pins": [PIN]}
    group = {"name": "g", "selector": "hall=3", "description": "by the gate"}
    there = Present([group], [held, P02], [])
    assert asked(b"groups: {g: {selector: hall=3}}\ndevices: {p01: , p02: {held: , labels: }}", there) == []
    assert asked(b"groups: {g: {selector: hall=4}, new: {selector: a}}", there) == [
        ("~", "put_group", "selector=hall=3 -> selector=hall=4"),
        ("+", "put_group", "selector=a"),
    ]
    assert asked(b"devices: {p01: {held: '', pins: {}}}", there) == [
        ("~", "release", "release it (held: in use)"),
        ("-", "unpin", "unpin main from watch:2"),
    ]
    assert asked(b"devices: {p01: {pins: {main: {model: watch, version: 3}, b: {model: m, version: 1}}}}", there) == [
        ("+", "pin", "pin b to m:1"),
        ("~", "pin", "pin main to watch:3"),
    ]
    assert asked(b"devices: {p09: {held: wait, pins: {main: {model: m, version: 1}}}}", there) == [
        ("+", "claim", "announce it"),
        ("~", "hold", "hold it: wait"),
        ("+", "pin", "pin main to m:1"),
    ]


def test_a_rollout_to_a_group_that_nobody_knows_is_hopeless() -> None:
    """One of the file itself is as good as one that is there."""
    text = (
        b"groups: {g: {selector: a}}\nrollouts: [{model: m, version: 1, selector: {'@group': %s}, waves: [{count: 1}]}]"
    )
    there = Present([{"name": "h", "selector": "a", "description": ""}], [], [])
    for group, verb in ((b"g", "roll_out"), (b"h", "roll_out"), (b"i", "give_up")):
        assert asked(text % group, there)[-1][1] == verb


def test_what_was_exported_asks_for_nothing() -> None:
    """Halted and overtaken rollouts are nobody's wish; all else comes back as it was."""
    plan: dict[str, Any] = {
        "waves": [{"count": 1, "percent": None}],
        "gates": [],
        "rate": None,
        "retry": {"outcomes": []},
    }
    rollouts = [
        rollout(2, "succeeded", plan=plan),
        rollout(3, "running", plan=plan),
        rollout(7, "halted", slot="b", plan=plan),
    ]
    group = {"name": "g", "selector": "hall=3", "description": "by the gate", "devices": 1}
    present = Present([group], [P01 | {"held_reason": 'in use: "x"', "pins": [PIN]}, P02], rollouts)
    fleet = parse(document(present), "f")
    assert difference(fleet, present) == []
    assert [one["version"] for one in fleet.rollouts] == [3]
    assert len(difference(fleet, Present([], [], []))) == 1 + 2 + 2 + 1
