"""kill -9 at twenty seeded points that cover every phase: the story still ends with 20 of 20 and the right result.

The killer watches from outside, as fate would: it waits for what shows the phase, lets a seeded moment pass,
kills the victim with SIGKILL and starts it again. A hub takes its broker and its jobs with it.
"""

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from edge_agent.core.pointer import parse
from edge_agent.service.durable import STATE
from fleetloop.client import HubClient, HubError
from fleetloop.demo.story import MODEL, Story
from wire.messages import Phase

pytestmark = pytest.mark.e2e
ROUNDS = 30
SEED = 0


@dataclass(frozen=True)
class Point:
    """One kill: what must be true first, who dies, and up to how long after."""

    name: str
    victim: str
    """The hub, or the agent of the device that the condition found."""
    find: Callable[["Killer"], str | None]
    delay_s: float = 0.3


class Killer(threading.Thread):
    """Works through the points in order while the story is told."""

    def __init__(self, story: Story, points: list[Point], seed: int) -> None:
        super().__init__(name="killer", daemon=True)
        self.story, self.points = story, points
        self.rng = random.Random(seed)
        self.killed: list[str] = []
        self.spared: set[str] = set()
        self.over = threading.Event()

    def run(self) -> None:
        """Until all points were hit or the story is over."""
        for point in self.points:
            device = self._wait_for(point)
            if device is None:
                return
            time.sleep(self.rng.uniform(0, point.delay_s))
            stage = self.story.stage
            process = stage.hub if point.victim == "hub" else stage.agents[device]
            process.kill()
            self.killed.append(point.name)
            self.spared.add(device)
            process.start()

    def _wait_for(self, point: Point) -> str | None:
        while not self.over.is_set():
            with suppress(HubError, AssertionError, psutil.Error):
                found = point.find(self)
                if found is not None:
                    return found
            time.sleep(0.02)
        return None

    # What shows the phase.

    @property
    def hub(self) -> HubClient:
        """The hub's API."""
        return self.story.hub

    def any_of(self, names: list[str]) -> str | None:
        """A seeded choice among devices that were not killed before (or among all, when every one was)."""
        fresh = [name for name in sorted(names) if name not in self.spared] or sorted(names)
        return self.rng.choice(fresh) if fresh else None

    def devices(self, holds: Callable[[dict[str, Any]], bool]) -> str | None:
        """One of the devices for which the hub's view `holds`."""
        return self.any_of([device["name"] for device in self.hub.devices() if holds(device)])

    def installing(self) -> str | None:
        """A device whose installer child is alive right now."""
        busy = []
        for name, agent in list(self.story.stage.agents.items()):
            if agent.pid is not None and psutil.Process(agent.pid).children():
                busy.append(name)
        return self.any_of(busy)

    def rollout(self, version: int) -> dict[str, Any] | None:
        """The running rollout of `version`."""
        running = (row for row in self.hub.rollouts() if row["version"] == version and row["state"] == "running")
        return next(running, None)


def enrolling(killer: Killer) -> str | None:
    """An agent that was started and is not online yet."""
    started = list(killer.story.stage.agents)
    if len(started) < 4:
        return None
    offline = {device["name"] for device in killer.hub.devices() if not device["online"]}
    return killer.any_of([name for name in started if name in offline])


def some_online(killer: Killer) -> str | None:
    """Half of the fleet has enrolled."""
    online = [device["name"] for device in killer.hub.devices() if device["online"]]
    return online[0] if len(online) >= 10 else None


def job_running(kind: str) -> Callable[[Killer], str | None]:
    """A job of `kind` runs and has said something."""

    def find(killer: Killer) -> str | None:
        jobs = [job for job in killer.hub.jobs() if job["kind"] == kind and job["state"] == "running"]
        return "hub" if any(killer.hub.job(job["id"])["events"] for job in jobs) else None

    return find


def version_exists(number: int) -> Callable[[Killer], str | None]:
    """The version was just built."""
    return lambda killer: "hub" if any(row["version"] == number for row in killer.hub.versions(MODEL)) else None


def wave_open(version: int, wave: int) -> Callable[[Killer], str | None]:
    """The rollout has come to `wave`."""

    def find(killer: Killer) -> str | None:
        rollout = killer.rollout(version)
        return "hub" if rollout and rollout["wave"] >= wave else None

    return find


def installing(version: int, wave: int) -> Callable[[Killer], str | None]:
    """A device of that wave has its installer child running."""
    return lambda killer: killer.installing() if wave_open(version, wave)(killer) else None


def on_trial(version: int) -> Callable[[Killer], str | None]:
    """A device has the new model on trial. The hub hears of a long trial only."""

    def find(killer: Killer) -> str | None:
        if killer.rollout(version) is None:
            return None
        return killer.any_of([name for name in list(killer.story.stage.agents) if _on_trial(killer, name)])

    return find


def _on_trial(killer: Killer, name: str) -> bool:
    record = killer.story.stage.agent_directory(name) / STATE
    return record.is_file() and any(slot.phase is Phase.TRIAL for slot in parse(record.read_bytes()).slots.values())


def in_use(killer: Killer) -> str | None:
    """The device whose recordings are being played: the feeder takes them in order."""
    if killer.story.step != "use_1":
        return None
    names = [stream.device for stream in killer.story.plan.streams]
    waiting = [name for name in names if name not in killer.story.stage.feeder.finished]
    return waiting[0] if waiting else None


def learning(after: int) -> Callable[[Killer], str | None]:
    """More than `after` federated rounds are done and the run goes on: a learner is in the middle of one."""

    def find(killer: Killer) -> str | None:
        runs = [run for run in killer.hub.federated_runs() if run["state"] == "running"]
        if not runs or len(killer.hub.federated_run(runs[0]["id"])["rounds"]) <= after:
            return None
        return killer.devices(lambda device: device["labels"]["role"] == "learner")

    return find


POINTS = [
    Point("agent while enrolling", "agent", enrolling, 0.5),
    Point("hub while devices enrol", "hub", some_online),
    Point("hub while training", "hub", job_running("train"), 2.0),
    Point("hub as version 1 is built", "hub", version_exists(1)),
    Point("canary mid-install", "agent", installing(1, 0), 0.2),
    Point("canary on trial", "agent", on_trial(1)),
    Point("agent mid-install in the second wave", "agent", installing(1, 1), 0.2),
    Point("hub in the second wave", "hub", wave_open(1, 1)),
    Point("agent mid-install in the last wave", "agent", installing(1, 2), 0.2),
    Point("hub in the last wave", "hub", wave_open(1, 2), 1.0),
    Point("agent in use", "agent", in_use, 0.5),
    Point("hub while agents are in use", "hub", in_use, 1.0),
    Point("agent in an early round", "agent", learning(1), 0.8),
    Point("hub in an early round", "hub", learning(5), 0.8),
    Point("another agent in a round", "agent", learning(10), 0.8),
    Point("hub in a later round", "hub", learning(16), 0.8),
    Point("agent in a later round", "agent", learning(22), 0.8),
    Point("hub as version 2 is built", "hub", version_exists(2)),
    Point("agent mid-install of version 2", "agent", installing(2, 0), 0.2),
    Point("hub in the last wave of version 2", "hub", wave_open(2, 2), 1.0),
]


@pytest.mark.timeout(900)
def test_twenty_kills_change_nothing_in_the_end(make_story: Callable[..., Story]) -> None:
    """Every point is hit, 20 of 20 devices commit both versions, and the fleet has learned what it should."""
    story = make_story(rounds=ROUNDS, seed=SEED)
    killer = Killer(story, POINTS, SEED)
    killer.start()
    try:
        story.play()
    finally:
        killer.over.set()
        killer.join()
    assert killer.killed == [point.name for point in POINTS]
    assert [(row["committed"], row["failed"]) for row in story.rollouts] == [(20, 0), (20, 0)]
    assert len([row for row in story.federated["rounds"] if row["round"] > 0]) == ROUNDS
    gained = story.accuracy(2, arm="left") - story.accuracy(1, arm="left")
    lost = story.accuracy(1, arm="right") - story.accuracy(2, arm="right")
    assert gained >= 0.25, f"left arms gained {gained:.3f} in {ROUNDS} rounds"
    assert lost <= 0.10, f"right arms lost {lost:.3f}"
