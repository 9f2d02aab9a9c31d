"""How fast a fleet lives in virtual time, and that it lives the same life every time.

The workload (`bench.virtual_day`): every device has enrolled long ago, starts, gets one version of 130 kB in four waves
(1, 10, 50, 100 %), 5,000 devices under way at a time at the most, over a network that loses and doubles 1 % of all
messages, and then shows that it is there, for as many hours as are asked for. It runs in two fresh processes: with
other hash seeds, garbage collection at other moments, and, in the second, after another seed has had a short run there.
Both have to come to the same digest of all messages.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import Annotated, Any, Final

import msgspec

from bench.result import Outcome, finish
from bench.virtual_day import Day
from edge_agent.service.telemetry import INTERVAL_S

COLLECT: Final = (500_000, 120_000)
HASH_SEEDS: Final = ("1", "4242")
SHORT_DEVICES: Final = 6
SHORT_HOURS: Final = 0.25


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    devices: Annotated[int, msgspec.Meta(description="devices of the fleet", ge=1, le=100_000)] = 1_000
    hours: Annotated[float, msgspec.Meta(description="virtual hours; 0: until the rollout has ended", ge=0)] = 24.0
    heartbeat_s: Annotated[
        float, msgspec.Meta(description="seconds after which a device at rest says that it is there", gt=0)
    ] = INTERVAL_S
    in_flight: Annotated[int, msgspec.Meta(description="devices under way at a time at the most", ge=1)] = 5_000
    seed: Annotated[int, msgspec.Meta(description="decides everything random", ge=0)] = 1
    once: Annotated[bool, msgspec.Meta(description="one run only: nothing is compared")] = False
    short: Annotated[bool, msgspec.Meta(description="6 devices, a quarter of an hour, for tests")] = False
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


def run(settings: Settings) -> int:
    """1 when a promise of the fleet was broken, or two runs differ."""
    if settings.short:
        settings = msgspec.structs.replace(settings, devices=SHORT_DEVICES, hours=SHORT_HOURS)
    day = Day(settings.devices, settings.hours, settings.heartbeat_s, settings.seed, COLLECT[0], settings.in_flight)
    first = _lived(day, HASH_SEEDS[0])
    figures = {"devices": settings.devices, "heartbeat_s": settings.heartbeat_s, **first}
    passed = not first["problems"]
    if not settings.once:
        other = Day(**{**asdict(day), "collect_every": COLLECT[1], "before": settings.seed + 1})
        second = _lived(other, HASH_SEEDS[1])
        passed &= second["digest"] == first["digest"] and not second["problems"]
        figures |= {"digest_again": second["digest"], "cpu_s_again": second["cpu_s"]}
    return finish(Outcome({**figures, "load": os.getloadavg()[0]}, passed=passed), as_json=settings.json)


def _lived(day: Day, hash_seed: str) -> dict[str, Any]:
    """The figures of one run in a fresh process."""
    command = [sys.executable, "-m", "bench.virtual_day", json.dumps(asdict(day))]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures
