"""The overview from a real SQLite database: migrated as the hub does it, filled by hand with a fleet in mid-story."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, Table, insert

from cloud import tables
from cloud.adapters.sql_store import make_engine, migrate
from cloud.service.overview import Overview, overview
from cloud.service.overview.shapes import Quality
from tests.samples.release_builders import MODEL, PARENT, SMALL, card, release
from wire.codec import encode
from wire.histogram import bucket
from wire.messages import Capabilities, Reported, Telemetry

NOW_NS = 1_700_000_000_000_000_000
SHA = "a" * 64


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[Connection]:
    """An open transaction on an empty, migrated database."""
    engine = make_engine(tmp_path / "hub.sqlite")
    migrate(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection
        connection.rollback()
    engine.dispose()


class Filler:
    """Writes rows as the hub's services leave them behind."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def put(self, table: Table, **values: Any) -> None:
        """One row."""
        self._conn.execute(insert(table).values(**values))

    def device(self, name: str, arm: str, role: str = "learner", **values: Any) -> None:
        """An enrolled device with labels."""
        labels = {"person": name[1:3], "arm": arm, "role": role}
        self.put(
            tables.devices,
            name=name,
            labels=labels,
            federated=role == "learner",
            claimed_ns=NOW_NS,
            **{"online": True, **values},
        )

    def slot(self, device: str, version: int | None, phase: str = "committed", reason: str = "") -> None:
        """What the main slot of a device reports."""
        installed = {} if version is None else {"model": MODEL, "version": version, "variant": "int8", "sha256": SHA}
        self.put(tables.slots, device=device, slot="main", phase=phase, execution="x", reason=reason, **installed)

    def stats(
        self, device: str, version: int, counts: tuple[int, int, int], confidence: float, latency_us: int
    ) -> None:
        """Counters: predictions, feedback, correct."""
        predictions, feedback, correct = counts
        self.put(
            tables.stats,
            device=device,
            model=MODEL,
            version=version,
            variant="int8",
            predictions=predictions,
            feedback=feedback,
            correct=correct,
            confidence_sum=confidence * predictions,
            latency_us={str(bucket(latency_us)): predictions},
        )

    def version(self, number: int, state: str = "released", run: str | None = None) -> None:
        """A version with the builders' documents."""
        self.put(
            tables.versions,
            model=MODEL,
            version=number,
            counter=number,
            state=state,
            release=encode(release(number, number)),
            card=encode(card(number, run)),
            chosen="int8",
            job=f"job-{number}",
            parent_version=number - 1 or None,
            federated_run=run,
            created_ns=NOW_NS + number,
        )

    def rollout(self, name: str, version: int, state: str, outcomes: list[tuple[str, int, str | None]]) -> None:
        """A rollout in its second of two waves; `outcomes`: device, wave, how it ended."""
        verdict = {"gate": "commit_rate >= 90 %", "sample": 2, "text": "1 of 2 committed, 0 failed"}
        self.put(
            tables.rollouts,
            id=name,
            model=MODEL,
            version=version,
            slot="main",
            selector={},
            plan={"waves": [{"count": 1}, {"percent": 100}]},
            state=state,
            wave=1,
            evidence={
                "0": [{**verdict, "value": 1.0, "passed": True}],
                "1": [{**verdict, "value": 0.5, "passed": False}],
            },
            created_ns=NOW_NS + version,
            updated_ns=NOW_NS,
        )
        for device, wave, outcome in outcomes:
            self.put(tables.members, rollout=name, device=device, wave=wave, outcome=outcome)


@pytest.fixture
def fill(conn: Connection) -> Filler:
    """A filler of that database."""
    filler = Filler(conn)
    filler.put(tables.models, name=MODEL, workload="watch", created_ns=NOW_NS)
    return filler


def test_empty_database_is_a_hub_that_waits(conn: Connection) -> None:
    """Nothing is there, nothing breaks."""
    assert overview(conn, NOW_NS) == Overview(now_ns=NOW_NS, stage="enrol", headline="Waiting for devices to enrol")


def test_device_shows_the_figures_of_what_it_runs_now(conn: Connection, fill: Filler) -> None:
    """Version 2 is installed: version 1's counters are history and stay out."""
    fill.device("p01-left", "left", telemetry=msgspec.json.encode(Telemetry(seq=1, federated_updates_sent=7)))
    fill.slot("p01-left", 2)
    fill.stats("p01-left", 1, (100, 100, 20), 0.9, 100)
    fill.stats("p01-left", 2, (50, 40, 30), 0.8, 200)
    (device,) = overview(conn, NOW_NS).devices
    assert (device.version, device.variant, device.phase, device.updates_sent) == (2, "int8", "committed", 7)
    assert (device.quality.predictions, device.quality.feedback, device.quality.accuracy) == (50, 40, 0.75)
    assert device.quality.confidence == pytest.approx(0.8)
    assert device.quality.p50_ms == pytest.approx(0.2, rel=0.1)


def test_device_without_a_report_or_a_prediction_is_unmeasured(conn: Connection, fill: Filler) -> None:
    """Claimed only, and freshly installed: no figure is made up."""
    fill.device("p01-left", "left", online=False)
    fill.device("p02-left", "left")
    fill.slot("p02-left", 1)
    claimed, fresh = overview(conn, NOW_NS).devices
    assert (claimed.version, claimed.phase, claimed.online, claimed.quality) == (None, "idle", False, Quality())
    assert (fresh.version, fresh.quality) == (1, Quality())


def test_refusals_are_shown_with_their_reason(conn: Connection, fill: Filler) -> None:
    """By the hub, by the device, or a failed installation, in this order."""
    capabilities = Capabilities(engines={}, max_opset=20, machine="x", python="3", ram_bytes=1, disk_free_bytes=1)
    reported = Reported(
        seq=1, sequence=1, agent="0", capabilities=capabilities, refused="sequence 3 is below the floor"
    )
    fill.device("p01-left", "left", last_refusal="reported: unknown field")
    fill.device("p02-left", "left", reported=encode(reported))
    fill.device("p03-left", "left")
    fill.slot("p03-left", None, "failed", "golden outputs differ")
    notes = [device.note for device in overview(conn, NOW_NS).devices]
    assert notes == ["reported: unknown field", "sequence 3 is below the floor", "golden outputs differ"]


def test_refusal_before_the_newest_good_report_is_history(conn: Connection, fill: Filler) -> None:
    """One bad message must not mark a device for ever."""
    fill.device("p01-left", "left", last_refusal="too large", last_refusal_ns=NOW_NS, reported_ns=NOW_NS + 1)
    fill.device("p02-left", "left", last_refusal="too large", last_refusal_ns=NOW_NS, reported_ns=NOW_NS - 1)
    assert [device.note for device in overview(conn, NOW_NS).devices] == ["", "too large"]


def test_groups_add_up_devices_by_version_arm_and_role(conn: Connection, fill: Filler) -> None:
    """Counts are summed, not rates averaged; devices of another role stay apart."""
    fill.version(1)
    for name, arm, role, counts in (
        ("p01-left", "left", "learner", (100, 100, 10)),
        ("p02-left", "left", "learner", (300, 300, 90)),
        ("p08-left", "left", "unseen", (10, 10, 5)),
        ("p01-right", "right", "learner", (10, 0, 0)),
    ):
        fill.device(name, arm, role)
        fill.stats(name, 1, counts, 0.9, 100)
    groups = {(g.labels["arm"], g.labels["role"]): g for g in overview(conn, NOW_NS).groups}
    left = groups["left", "learner"]
    assert (left.version, left.devices, left.quality.accuracy) == (1, 2, 0.25)
    assert groups["left", "unseen"].quality.accuracy == 0.5
    assert groups["right", "learner"].quality.accuracy is None
    assert groups["right", "learner"].quality.confidence == pytest.approx(0.9)


def test_versions_carry_candidates_and_lineage(conn: Connection, fill: Filler) -> None:
    """Oldest first; sizes, the shipped one and refusals come from the signed documents."""
    fill.version(1)
    fill.version(2, "awaiting_signature", run="run-1")
    found = overview(conn, NOW_NS)
    first, second = found.versions
    assert (first.origin, second.origin, second.parent_version, second.federated_run) == (
        "trained",
        "federated",
        1,
        "run-1",
    )
    assert (first.fp32_bytes, first.data_sha256) == (len(PARENT), "d" * 64)
    fp32, int8 = first.candidates
    assert (fp32.kept, fp32.shipped, fp32.reasons) == (False, False, ("smaller: no",))
    assert (int8.kept, int8.shipped, int8.bytes, int8.accuracy, int8.p50_ms) == (True, True, len(SMALL), 0.975, 0.1)
    assert (found.stage, found.headline) == ("sign", "Version 2 waits for the publisher's signature")


def test_rollout_counts_waves_and_judges_gates(conn: Connection, fill: Filler) -> None:
    """A gate that has not passed yet is open while the rollout runs, and failed once it has halted."""
    fill.version(1)
    for number in range(1, 6):
        fill.device(f"p0{number}-left", "left")
    ended = ["succeeded", "succeeded", "rolled_back", "cancelled", None]
    outcomes = [(f"p0{n}-left", min(1, n - 1), outcome) for n, outcome in enumerate(ended, 1)]
    fill.rollout("r1", 1, "running", outcomes)
    found = overview(conn, NOW_NS)
    (rollout,) = found.rollouts
    waves = [(wave.number, wave.planned, wave.committed, wave.failed, wave.state) for wave in rollout.waves]
    assert waves == [(1, 1, 1, 0, "passed"), (2, 3, 1, 1, "running")]
    assert [(gate.name, gate.evidence, gate.passed) for gate in rollout.gates] == [
        ("commit_rate >= 90 %", "1 of 2 committed, 0 failed", None)
    ]
    assert (found.stage, found.headline) == ("roll_out", "Rolling out version 1: wave 2 of 2")
    conn.execute(tables.rollouts.update().values(state="halted", reason="wave 2: too many failed"))
    (halted,) = overview(conn, NOW_NS).rollouts
    assert (halted.gates[0].passed, halted.waves[1].state) == (False, "halted")


def test_federated_run_tells_rounds_and_verdict(conn: Connection, fill: Filler) -> None:
    """Rounds in order, the verdict in words, and the stage is lit while it runs."""
    fill.version(1)
    fill.put(
        tables.federated_runs,
        id="run-1",
        model=MODEL,
        version=1,
        state="running",
        request={"strategy": "FedAvgM", "rounds": 30},
        devices={"p01-left": {}, "p02-left": {}},
        verdict={"passed": True, "reason": "", "groups": [{"text": "fleet better"}, {"text": "right arms as good"}]},
        created_ns=NOW_NS,
    )
    for number in (2, 1):
        figures = {"bytes_down": 10, "bytes_up": 20, "seconds": 1.5, "train_loss": 0.5, "eval_acc": None}
        fill.put(tables.federated_rounds, run="run-1", round=number, clients=2, failures=[], **figures)
    fill.put(
        tables.jobs,
        id="j1",
        kind="federated",
        state="running",
        model=MODEL,
        request={},
        created_ns=1,
        federated_run="run-1",
    )
    for event in ({"event": "started"}, {"event": "evaluation", "when": "before", "clients": 2, "accuracy": 0.4}):
        fill.put(tables.job_events, job="j1", at_ns=1, event=event)
    found = overview(conn, NOW_NS)
    (run,) = found.federated
    assert (run.accuracy_before, run.accuracy_after) == (0.4, None)
    assert ([r.round for r in run.rounds], run.clients, run.rounds_planned) == ([1, 2], 2, 30)
    assert run.verdict == "fleet better; right arms as good"
    assert (found.stage, found.headline) == ("learn", "2 devices are learning: round 2 of 30 done")


def test_jobs_show_their_newest_progress_and_events_read_well(conn: Connection, fill: Filler) -> None:
    """The last event of a job counts; audit lines come newest first with their short details."""
    fill.put(tables.jobs, id="j1", kind="train", state="running", model=MODEL, request={}, created_ns=NOW_NS)
    for epoch in (1, 2):
        event = {"event": "epoch", "epoch": epoch, "epochs": 40, "loss": 0.1}
        fill.put(tables.job_events, job="j1", at_ns=NOW_NS, event=event)
    line = {"at_ns": NOW_NS, "actor": "hub", "subject": "r1"}
    fill.put(tables.audit, **line, action="rollout.create", detail={"version": 1, "selector": {}})
    fill.put(tables.audit, **line, action="rollout.wave", detail={"wave": 1})
    found = overview(conn, NOW_NS)
    assert [job.progress for job in found.jobs] == ["epoch 2 of 40"]
    assert [(event.action, event.detail) for event in found.events] == [
        ("rollout.wave", "wave 2"),
        ("rollout.create", "version 1"),
    ]
    assert (found.stage, found.headline) == ("train", "Training version 1: epoch 2 of 40")


@pytest.mark.parametrize(
    ("event", "stage", "words"),
    [
        ({"event": "exported", "graph": "train-step"}, "train", "graphs exported"),
        ({"event": "epoch", "stage": "finetune", "epoch": 2, "epochs": 20}, "optimize", "pruned copy, epoch 2 of 20"),
        ({"event": "candidate", "name": "int8", "accepted": True}, "optimize", "measured int8"),
        ({"event": "something new"}, "train", "Training version 1"),
    ],
)
def test_training_job_lights_the_stage_that_it_has_reached(
    conn: Connection, fill: Filler, event: dict[str, Any], stage: str, words: str
) -> None:
    """One job trains and optimizes; an event that nobody knows yet does no harm."""
    fill.put(tables.jobs, id="j1", kind="train", state="running", model=MODEL, request={}, created_ns=NOW_NS)
    fill.put(tables.job_events, job="j1", at_ns=NOW_NS, event=event)
    found = overview(conn, NOW_NS)
    assert found.stage == stage
    assert words in found.headline


def test_overview_is_plain_json(conn: Connection, fill: Filler) -> None:
    """The API sends it as it is, and a reader gets the same value back."""
    fill.version(1)
    fill.device("p01-left", "left")
    fill.rollout("r1", 1, "running", [("p01-left", 0, None)])
    found = overview(conn, NOW_NS)
    assert msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(found)), type=Overview) == found
