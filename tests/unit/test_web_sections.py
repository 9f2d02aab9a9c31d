"""What the page says, from hand-made overviews: words, escaping, and that no state of the loop breaks it."""

import msgspec
import pytest

from cloud.service.overview.headline import headline
from cloud.service.overview.shapes import (
    CandidateView,
    DeviceView,
    EventView,
    FederatedView,
    GateView,
    GroupView,
    JobView,
    Overview,
    Quality,
    RolloutView,
    RoundView,
    VersionView,
    WaveView,
)
from cloud.web.figures import accuracy_colour, latency, share, size
from cloud.web.markup import Markup, join, tag
from cloud.web.sections import banner, candidates, devices, federated, history, loop, quality, rollout

HOSTILE = '<script>alert("x")</script>'
RENDERS = (
    banner.render,
    loop.render,
    devices.render,
    quality.render,
    rollout.render,
    federated.render,
    candidates.render,
    history.lineage,
    history.events,
)


def group(version: int, arm: str, accuracy: float, confidence: float) -> GroupView:
    """Unseen people, one arm."""
    measured = Quality(predictions=100, feedback=90, accuracy=accuracy, confidence=confidence, p50_ms=0.1)
    return GroupView(version=version, labels={"arm": arm, "role": "unseen"}, devices=3, quality=measured)


def wave(state: str = "running") -> WaveView:
    """The first wave."""
    return msgspec.convert({"number": 1, "planned": 4, "committed": 2, "failed": 1, "state": state}, WaveView)


def rolling(state: str = "running", text: str = "") -> RolloutView:
    """A rollout of version 1."""
    gate = GateView(name="commit_rate >= 90 %", passed=None, evidence=text)
    return RolloutView(
        id="r1", model="m", version=1, state=state, reason=text, started_ns=1, waves=(wave(),), gates=(gate,)
    )


def learning(state: str = "running", *rounds: RoundView, text: str = "") -> FederatedView:
    """A run of 30 rounds."""
    return FederatedView(
        id="f1",
        model="m",
        version=1,
        strategy=text or "FedAvg",
        state=state,
        reason=text,
        clients=14,
        rounds_planned=30,
        rounds=rounds,
    )


def version(state: str = "released", text: str = "") -> VersionView:
    """Version 1."""
    candidate = CandidateView(name=text or "int8", bytes=10, kept=False, shipped=False, reasons=(text,))
    return VersionView(
        model="m",
        version=1,
        state=state,
        reason=text,
        origin="trained",
        job=text,
        parent_version=None,
        federated_run=None,
        data_sha256=text,
        fp32_bytes=20,
        candidates=(candidate,),
    )


def device(text: str = "p01", number: int | None = 1) -> DeviceView:
    """A device that runs version `number`."""
    labels = {"person": text, "arm": text, "role": "unseen"}
    return DeviceView(name=text, labels=labels, online=True, phase="committed", version=number, note=text)


def hostile() -> Overview:
    """Everything that devices, people and jobs can write, written badly."""
    return Overview(
        now_ns=1,
        stage="watch",
        headline=HOSTILE,
        devices=(device(HOSTILE), DeviceView(name=HOSTILE, labels={}, online=False, phase=HOSTILE)),
        groups=(GroupView(version=1, labels={"arm": HOSTILE}, devices=1, quality=Quality(feedback=1, accuracy=0.1)),),
        versions=(version(HOSTILE, HOSTILE),),
        rollouts=(rolling(HOSTILE, HOSTILE),),
        federated=(learning(HOSTILE, text=HOSTILE),),
        jobs=(JobView(id=HOSTILE, kind="train", state="running", stage="train", progress=HOSTILE),),
        events=(EventView(at_ns=1, actor=HOSTILE, action=HOSTILE, subject=HOSTILE, detail=HOSTILE),),
    )


def test_empty_hub_renders_everywhere() -> None:
    """The first second of a hub's life."""
    nothing = Overview(now_ns=1, stage="enrol", headline="Waiting for devices to enrol")
    for render in RENDERS:
        assert render(nothing).startswith("<")
    assert federated.curve(nothing)["series"][0]["data"] == []


def test_nothing_that_is_reported_becomes_a_tag() -> None:
    """Device names, labels, reasons, strategies and actors are text, in content and in attributes."""
    for render in RENDERS:
        content = render(hostile())
        assert "<script" not in content
        assert 'alert("x")' not in content
    assert "&lt;script&gt;" in banner.render(hostile())


def test_only_markup_is_trusted_by_markup() -> None:
    """Plain text is escaped wherever it is put, and joining keeps what is HTML already."""
    inner = tag("b", "a < b", title='"quoted"')
    assert inner == '<b title="&quot;quoted&quot;">a &lt; b</b>'
    assert join(inner, "&", None) == inner + "&amp;"
    assert isinstance(join(), Markup)


def test_overconfidence_is_said_in_words() -> None:
    """The point of the page: the model does not know that it is wrong."""
    said = quality.render(
        Overview(
            now_ns=1, stage="watch", headline="", groups=(group(1, "right", 0.95, 0.96), group(1, "left", 0.27, 0.9))
        )
    )
    assert "Version 1 does not know when it is wrong" in said
    assert "On left arms of unseen people it is right 27" in said


def test_gain_over_the_version_before_is_said() -> None:
    """And the alarm is about the newest version only."""
    groups = (group(1, "left", 0.27, 0.9), group(2, "left", 0.8, 0.92), group(1, "right", 0.95, 0.9))
    said = quality.render(Overview(now_ns=1, stage="watch", headline="", groups=groups))
    assert "does not know" not in said
    assert "Left arms of unseen people: 0.27 with version 1, <b>0.80</b> now." in said


def test_unmeasured_is_never_shown_as_zero() -> None:
    """A dash, and a colour of its own."""
    assert share(None) == "–"
    assert accuracy_colour(None) != accuracy_colour(0.0)
    assert "0.00" not in devices.render(Overview(now_ns=1, stage="watch", headline="", devices=(device(),)))


def test_first_round_only_evaluates() -> None:
    """Round 0 is the curve's start, and no round of learning: it must not pull the means down."""
    start = RoundView(round=0, clients=14, seconds=0.1, bytes_down=1, bytes_up=1, accuracy=0.5)
    first = RoundView(round=1, clients=14, seconds=2.0, bytes_down=5000, bytes_up=70000, loss=1.0, accuracy=0.6)
    overview = Overview(now_ns=1, stage="learn", headline="", federated=(learning("running", start, first),))
    assert federated.curve(overview)["series"][0]["data"] == [[0, 0.5], [1, 0.6]]
    ended = msgspec.structs.replace(learning("running", first), accuracy_before=0.4, accuracy_after=0.9)
    whole = Overview(now_ns=1, stage="learn", headline="", federated=(ended,))
    assert federated.curve(whole)["series"][0]["data"] == [[0, 0.4], [1, 0.9]]
    figures = federated.render(overview)
    assert "70.0 kB" in figures
    assert "1 / 30" in figures


def test_repeated_events_fold_and_long_ids_are_cut() -> None:
    """Twenty claims are one line; nobody reads 32 hex digits."""
    claims = [EventView(at_ns=9, actor="admin", action="device.claim", subject=f"p{n}") for n in range(20)]
    job = EventView(
        at_ns=8, actor="admin", action="job.create", subject="b95ac44df1d5b305ce761f01502c7a31", detail="seed 0"
    )
    enrolled = [EventView(at_ns=9, actor=f"device:p{n}", action="device.enrol", subject=f"p{n}") for n in range(3)]
    lines = history.events(Overview(now_ns=9, stage="enrol", headline="", events=(*enrolled, *claims, job)))
    assert lines.count("<li>") == 3
    assert "p0 and 2 before it" in lines
    assert "p0 and 19 before it" in lines
    assert ">b95ac44d (seed 0)<" in lines


def test_sizes_read_well() -> None:
    """Decimal units, as files are listed."""
    assert [latency(value) for value in (None, 0.0214, 3.14159)] == ["–", "21 µs", "3.14 ms"]
    assert [size(count) for count in (999, 19_322, 1_500_000)] == ["999 B", "19.3 kB", "1.50 MB"]


TRAINING = JobView(id="j", kind="train", state="running", stage="train", progress="epoch 3 of 40")


@pytest.mark.parametrize(
    ("parts", "stage", "words"),
    [
        ({}, "enrol", "Waiting for devices"),
        ({"devices": [device(number=None)]}, "enrol", "1 of 1 devices are here"),
        ({"jobs": [TRAINING]}, "train", "Training version 1: epoch 3 of 40"),
        (
            {"jobs": [msgspec.structs.replace(TRAINING, stage="optimize", progress="measured int8")]},
            "optimize",
            "Optimizing version 1: measured int8",
        ),
        ({"versions": [version("awaiting_signature")]}, "sign", "waits for the publisher"),
        ({"versions": [version()], "devices": [device(number=None)]}, "sign", "Version 1 is signed and can be rolled"),
        (
            {"versions": [version()], "devices": [device()], "rollouts": [rolling("succeeded")]},
            "watch",
            "Version 1 runs on 1 of 1",
        ),
        ({"versions": [version("refused", "too large")]}, "sign", "refused version 1: too large"),
        ({"rollouts": [rolling()], "devices": [device()]}, "roll_out", "wave 1 of 1"),
        ({"rollouts": [rolling("halted", "wave 1: no")]}, "roll_out", "is halted: wave 1: no"),
        ({"runs": [learning()], "rollouts": [rolling("succeeded")]}, "learn", "round 0 of 30"),
        ({"runs": [learning("deriving")]}, "optimize", "the next version"),
        (
            {"rollouts": [rolling("succeeded")], "devices": [device(), device(number=None)]},
            "watch",
            "on 1 of 2 devices",
        ),
    ],
)
def test_headline_tells_the_most_urgent_thing(parts: dict[str, list[object]], stage: str, words: str) -> None:
    """One line per situation."""
    names = ("devices", "versions", "rollouts", "runs", "jobs")
    found, line = headline(*(parts.get(name, []) for name in names))  # type: ignore[arg-type]
    assert found == stage
    assert words in line
