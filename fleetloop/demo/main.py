"""`fleetloop demo`: set the stage, play the story, report, tidy up."""

import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from fleetloop.client import HubError
from fleetloop.demo.environment import InstallError, agent_python
from fleetloop.demo.narrator import Narrator
from fleetloop.demo.processes import ProcessError
from fleetloop.demo.report import report
from fleetloop.demo.settings import Settings
from fleetloop.demo.stage import Interpreters, Stage
from fleetloop.demo.story import Plan, Story, StoryError
from workloads.registry import load_workload


def run(settings: Settings) -> int:
    """Play the demonstration; 0 when the whole story came true."""
    narrator = Narrator()
    signal.signal(signal.SIGTERM, _interrupt)
    directory = Path(settings.workdir or tempfile.mkdtemp(prefix="fleetloop-")).absolute()
    try:
        python = agent_python(settings.agent_python)
    except InstallError as error:
        narrator.say(f"[red]{error}[/red]")
        return 1
    stage = Stage(directory, settings.workload, Interpreters(agent=python), settings.port)
    finished = False
    try:
        _play(settings, stage, narrator)
        finished = True
        if settings.keep:
            narrator.say(f"The fleet stays up: {stage.page_url}  (Ctrl-C ends it)")
            signal.pause()
    except KeyboardInterrupt:
        narrator.say("interrupted")
    except (StoryError, ProcessError, HubError) as error:
        narrator.say(f"[red]{error}[/red]\nState and logs are in {directory}")
    finally:
        stage.stop()
    if finished and not settings.workdir:
        shutil.rmtree(directory, ignore_errors=True)
    return 0 if finished else 1


def _play(settings: Settings, stage: Stage, narrator: Narrator) -> None:
    started = time.monotonic()
    workload = load_workload(settings.workload)
    rounds = settings.rounds or workload.federated.rounds
    plan = Plan(settings.workload, workload, settings.seed, rounds, settings.health_window_s, workload.streams())
    story = Story(plan, stage, narrator)
    narrator.say(f"Everything happens in {stage.directory}")
    story.open()
    narrator.say(f"Live page: {stage.page_url}")
    story.train()
    story.play_fleet()
    result = report(story, time.monotonic() - started)
    narrator.summary(result)
    if settings.json:
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
