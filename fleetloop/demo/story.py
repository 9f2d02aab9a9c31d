"""The story, step by step: what an operator would do with a new model and twenty devices, through the hub's API.

Each step waits for what it caused, never for time to pass. Nothing here decides anything: gates, waves, signatures and
verdicts are the system's own, and a refusal anywhere ends the story with the reason that the system gave.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fleetloop.client import HubClient, HubError
from fleetloop.demo.narrator import Narrator
from fleetloop.demo.stage import Stage
from workloads.base import DeviceStream, Workload

POLL_S = 0.3
MODEL = "exercises"
WAVES = ({"count": 1}, {"percent": 25}, {"percent": 100})


class StoryError(Exception):
    """The story cannot go on; says what the system answered."""


@dataclass
class Timings:
    """Seconds by step, for the report."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, step: str) -> Iterator[None]:
        """Measure one step."""
        start = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - start, 2)


@dataclass(frozen=True)
class Plan:
    """What varies between a demonstration and a test of it."""

    workload_name: str
    workload: Workload
    seed: int
    rounds: int
    health_window_s: float
    streams: Sequence[DeviceStream]


class Story:
    """Plays the story on a stage of real processes. Steps are public so that a test can disturb them one by one."""

    def __init__(self, plan: Plan, stage: Stage, narrator: Narrator) -> None:
        self.plan, self.stage, self.narrator = plan, stage, narrator
        self.timings = Timings()
        self.step = ""
        self.rollouts: list[dict[str, Any]] = []
        self.federated: dict[str, Any] = {}

    @property
    def hub(self) -> HubClient:
        """The hub's API as the administrator."""
        return self.stage.client

    def play(self) -> None:
        """The whole story."""
        self.open()
        self.train()
        self.play_fleet()

    def play_fleet(self) -> None:
        """Everything after version 1 is there."""
        self.roll_out(version=1)
        self.use(version=1)
        self.show_collapse()
        self.learn()
        self.roll_out(version=2)
        self.use(version=2)

    def open(self) -> None:
        """Start hub, broker and publisher; begin to train; start the agents and wait until all have enrolled."""
        streams = self.plan.streams
        with self._step("start", f"Hub, publisher and {len(streams)} edge agents", len(streams)):
            self.stage.start_cloud()
            self.job = self.hub.create_job(MODEL, workload=self.plan.workload_name, seed=self.plan.seed)["id"]
            for stream in streams:
                learner = stream.labels.get("role") == "learner"
                claim = self.hub.create_claim(stream.device, labels=dict(stream.labels), federated=learner)
                self.stage.start_agent(stream.device, claim)
            self._until(lambda: self._progress(sum(device["online"] for device in self.hub.devices()), len(streams)))

    def train(self) -> None:
        """Wait for version 1: trained, pruned, quantized, measured, signed."""
        with self._step("train", "Version 1: train on right arms, prune, quantize, measure, sign"):
            self._until(lambda: self._job_done(self.job))
            self._until(lambda: self._released(1))
        self._describe_version(1)

    def roll_out(self, version: int) -> None:
        """Bring `version` to every device in waves, and wait until the last one has committed it."""
        devices = len(self.plan.streams)
        with self._step(f"rollout_{version}", f"Version {version}: canary, a quarter, everyone", devices):
            rollout = self.hub.create_rollout(
                MODEL,
                version,
                waves=list(WAVES),
                gates=["commit_rate >= 100 %", "golden_agreement >= 100 %"],
                health_window_s=self.plan.health_window_s,
            )
            self._until(lambda: self._rolled_out(rollout["id"]))

    def use(self, version: int) -> None:
        """The people exercise: every recording is played once into its device, and the truth is told afterwards."""
        windows = {stream.device: len(stream) for stream in self.plan.streams}
        with self._step(f"use_{version}", f"People exercise with version {version}", len(windows)):
            self.stage.feeder.play(self._played)
            self._until(lambda: self._measured(version, windows))

    def show_collapse(self) -> None:
        """Say what the hub now sees of version 1."""
        right, left = (self.accuracy(1, arm=arm) for arm in ("right", "left"))
        confidence = self.confidence(1, arm="left")
        self.narrator.say(
            f"  version 1 is right {right:.0%} of the time on right arms, [bold]{left:.0%} on left arms[/bold] "
            f"- and there still {confidence:.0%} sure of itself (people it never saw)"
        )

    def learn(self) -> None:
        """Federated rounds on the learners, then version 2: derived, judged by the devices, signed."""
        plan = self.plan.workload.federated
        with self._step("federated", f"Devices learn: {self.plan.rounds} rounds of {plan.strategy}", self.plan.rounds):
            run = self.hub.create_federated_run(
                MODEL,
                version=1,
                selector={"role": "learner"},
                strategy=plan.strategy,
                strategy_args=dict(plan.strategy_options),
                rounds=self.plan.rounds,
                train={"local-epochs": plan.local_epochs, "lr": plan.learning_rate, "momentum": plan.momentum},
                evaluate_every=5,
                non_inferiority={"selector": {"arm": "right"}, "margin": 0.10},
                seed=self.plan.seed,
            )
            self._until(lambda: self._learned(run["id"]))
        with self._step("derive", "Version 2: quantize without retraining, check, sign"):
            self._until(lambda: self._federated_finished(run["id"]))
            self._until(lambda: self._released(2))
        self._describe_version(2)

    # What was measured, from what the devices reported.

    def stats(self, version: int, **labels: str) -> list[dict[str, Any]]:
        """The counters of `version` from every device with these labels."""
        rows: list[dict[str, Any]] = []
        for device in self.hub.devices():
            if all(device["labels"].get(key) == value for key, value in labels.items()):
                telemetry = self.hub.device(device["name"])["telemetry"] or {"stats": []}
                rows += [row for row in telemetry["stats"] if row["version"] == version]
        return rows

    def accuracy(self, version: int, *, arm: str, role: str = "unseen") -> float:
        """Share of correct predictions among those with feedback, over all devices of that arm and role."""
        rows = self.stats(version, arm=arm, role=role)
        return _ratio(rows, "correct", "feedback")

    def confidence(self, version: int, *, arm: str, role: str = "unseen") -> float:
        """Mean confidence over all predictions of the devices of that arm and role."""
        rows = self.stats(version, arm=arm, role=role)
        return _ratio(rows, "confidence_sum", "predictions")

    # Waiting.

    @contextmanager
    def _step(self, name: str, title: str, total: int | None = None) -> Iterator[None]:
        self.step = name
        with self.timings.measure(name), self.narrator.stage(title, total):
            yield

    def _until(self, done: Callable[[], bool]) -> None:
        """Ask again and again; a hub that is just being restarted is waited for, a dead process is not."""
        while True:
            self.stage.check()
            try:
                if done():
                    return
            except HubError as error:
                if not error.unreachable:
                    raise StoryError(str(error)) from error
            time.sleep(POLL_S)

    def _played(self, done: int, total: int) -> None:
        self.narrator.advance(done, total)
        self.stage.check()

    def _progress(self, done: int, total: int) -> bool:
        self.narrator.advance(done, total)
        return done >= total

    def _job_done(self, job_id: str) -> bool:
        job = self.hub.job(job_id)
        if job["state"] == "failed":
            raise StoryError(f"job {job_id} failed: {job['error']}")
        return bool(job["state"] == "succeeded")

    def _released(self, number: int) -> bool:
        versions = {version["version"]: version for version in self.hub.versions(MODEL)}
        version = versions.get(number)
        if version is not None and version["state"] == "refused":
            raise StoryError(f"the publisher refused version {number}: {version['reason']}")
        return version is not None and version["state"] == "released"

    def _rolled_out(self, rollout_id: str) -> bool:
        rollout = self.hub.rollout(rollout_id)
        self.narrator.advance(rollout["committed"], rollout["planned"])
        if rollout["state"] in ("halted", "aborted"):
            raise StoryError(f"rollout of version {rollout['version']} {rollout['state']}: {rollout['reason']}")
        if rollout["state"] != "succeeded":
            return False
        self.rollouts.append(rollout)
        return True

    def _measured(self, version: int, windows: dict[str, int]) -> bool:
        for device, count in windows.items():
            telemetry = self.hub.device(device)["telemetry"] or {"stats": []}
            if sum(row["feedback"] for row in telemetry["stats"] if row["version"] == version) < count:
                return False
        return True

    def _learned(self, run_id: str) -> bool:
        self.federated = self.hub.federated_run(run_id)
        rounds = [entry for entry in self.federated["rounds"] if entry["round"] > 0]
        self.narrator.advance(len(rounds), self.plan.rounds)
        return self._federated_state() != "running"

    def _federated_finished(self, run_id: str) -> bool:
        self.federated = self.hub.federated_run(run_id)
        return self._federated_state() == "succeeded"

    def _federated_state(self) -> str:
        state = str(self.federated["state"])
        if state in ("failed", "refused"):
            raise StoryError(f"federated run {state}: {self.federated['reason']}")
        return state

    def _describe_version(self, number: int) -> None:
        version: dict[str, Any] = {}

        def described() -> bool:
            version.update(self.hub.version(MODEL, number))
            return True

        self._until(described)
        for candidate in version["card"]["candidates"]:
            mark = (
                "[green]kept[/green]" if candidate["kept"] else f"[dim]refused: {'; '.join(candidate['reasons'])}[/dim]"
            )
            chosen = " [bold]ships[/bold]" if candidate["name"] == version["chosen"] else ""
            self.narrator.say(f"  {candidate['name']}: {candidate['bytes']:,} bytes, {mark}{chosen}")


def _ratio(rows: Sequence[dict[str, Any]], part: str, whole: str) -> float:
    """Sum of one counter over the sum of another; NaN when nothing was counted."""
    total = sum(float(row[whole]) for row in rows)
    return sum(float(row[part]) for row in rows) / total if total else math.nan
