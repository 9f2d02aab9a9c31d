"""The stage that whole-story tests play on: real hub, publisher, agents in their own environment, feeder."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleetloop.demo.environment import agent_python
from fleetloop.demo.narrator import Narrator
from fleetloop.demo.stage import Interpreters, Stage
from fleetloop.demo.story import Plan, Story
from workloads.registry import load_workload

WORKLOAD = "watch"


@pytest.fixture(scope="session")
def device_python() -> Path:
    """Python of the devices' environment (made by `make setup`, or now)."""
    existing = Path(__file__).parents[2] / ".venv-agent" / "bin" / "python"
    return agent_python(os.environ.get("FLEETLOOP_AGENT_PYTHON", str(existing) if existing.is_file() else ""))


@pytest.fixture
def make_story(tmp_path_factory: pytest.TempPathFactory, device_python: Path) -> Iterator[Callable[..., Story]]:
    """Builds a story with `rounds` federated rounds; everything it starts is stopped at the end."""
    stages: list[Stage] = []

    def make(*, rounds: int, seed: int = 0) -> Story:
        stage = Stage(tmp_path_factory.mktemp("s"), WORKLOAD, Interpreters(agent=device_python))
        stages.append(stage)
        workload = load_workload(WORKLOAD)
        plan = Plan(WORKLOAD, workload, seed, rounds, 1.0, workload.streams())
        return Story(plan, stage, Narrator())

    yield make
    for stage in stages:
        stage.stop()
