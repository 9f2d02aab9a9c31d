"""The real agent killed, and denied its disk, at every system call that matters; started again it goes on.

The agent is a process of its own on a real file system, strace does the killing and denying, a real broker stands
between it and the hub's side. Needs strace and mosquitto (Linux).
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from bench import mosquitto
from bench.crash_states.repository import publish
from bench.kill_points.agent import Place
from bench.kill_points.courses import Course, all_courses, retained, vouched
from bench.kill_points.hub import Hub
from bench.kill_points.points import Point, error_points, kill_points, spread
from bench.kill_points.trial import Seat
from bench.result import Outcome, finish
from wire.codec import encode
from wire.identity import Broker

MIN_KILLS, MIN_ERRORS = 200, 100
SHORT_KILLS, SHORT_ERRORS, SHORT_COURSES, SHORT_WORKERS = 12, 6, 2, 2


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    kills: Annotated[int, msgspec.Meta(description="most kill points; evenly spread over all calls", ge=1)] = 260
    errors: Annotated[int, msgspec.Meta(description="most error points", ge=1)] = 130
    course: Annotated[str, msgspec.Meta(description="only courses with this in their name")] = ""
    parts: Annotated[int, msgspec.Meta(description="split the points into so many parts", ge=1)] = 1
    part: Annotated[int, msgspec.Meta(description="and try this one of them, from 0 on", ge=0)] = 0
    workers: Annotated[int, msgspec.Meta(description="devices that are tried side by side", ge=1)] = 3
    agent_python: Annotated[str, msgspec.Meta(description="Python of an environment without torch and flwr")] = ""
    short: Annotated[bool, msgspec.Meta(description="a few points, for the test suite")] = False
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


@dataclass(slots=True)
class Tally:
    """What was tried by now. Points that were never met (another run makes other calls) count for nothing."""

    by_syscall: dict[str, Counter[str]] = field(default_factory=dict)
    missed: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, point: Point, broken: list[str] | None) -> None:
        """One more."""
        if broken is None:
            self.missed += 1
            return
        kind = "kills" if point.kills else "errors"
        self.by_syscall.setdefault(point.call, Counter())[kind] += 1
        self.violations += [f"{point}: {one}" for one in broken]

    def total(self, kind: str) -> int:
        """All points of a kind."""
        return sum(counts[kind] for counts in self.by_syscall.values())


def run(settings: Settings) -> int:
    """Try all points; 1 when a promise was broken or too few points were met. Without the tools: 0, and why."""
    began = time.monotonic()
    missing = missing_tool()
    if missing:
        return finish(Outcome({"skipped": missing}, passed=True), as_json=settings.json)
    with tempfile.TemporaryDirectory(prefix="fl-kill-") as directory, mosquitto.running(Path(directory)) as started:
        tally = asyncio.run(_try_all(settings, Path(directory), started.broker))
    for line in tally.violations:
        print(line, file=sys.stderr)
    figures = summary(tally) | {"seconds": round(time.monotonic() - began, 1)}
    enough = figures["kill_points"] >= MIN_KILLS and figures["error_points"] >= MIN_ERRORS
    whole = not (settings.short or settings.course or settings.parts > 1)
    return finish(Outcome(figures, (enough or not whole) and not tally.violations), as_json=settings.json)


def missing_tool() -> str:
    """Which program is missing, and how to get it; empty when all are there."""
    if shutil.which("strace") is None:
        return "strace is not installed; apt-get install strace"
    try:
        mosquitto.find()
    except mosquitto.NoBrokerError as error:
        return str(error)
    return ""


def summary(tally: Tally) -> dict[str, Any]:
    """The figures."""
    return {
        "kill_points": tally.total("kills"),
        "error_points": tally.total("errors"),
        "violations": len(tally.violations),
        "by_syscall": {call: dict(counts) for call, counts in sorted(tally.by_syscall.items())},
        "never_met": tally.missed,
    }


async def _try_all(settings: Settings, directory: Path, broker: Broker) -> Tally:
    courses = [one for one in all_courses() if settings.course in one.name][: SHORT_COURSES if settings.short else None]
    hub = Hub(broker, publish((one.release for one in vouched()), now_ns=time.time_ns()))
    await hub.start()
    try:
        await hub.retain(retained(tuple(courses)))
        workers = min(settings.workers, SHORT_WORKERS) if settings.short else settings.workers
        python = settings.agent_python or os.environ.get("FLEETLOOP_AGENT_PYTHON") or sys.executable
        seats = [_seat(directory, hub, f"d{number}", python) for number in range(workers)]
        await asyncio.gather(*(seat.prepare(courses) for seat in seats))
        return await _work_off(_points(settings, courses, seats[0]), courses, seats)
    finally:
        await hub.link.stop()


def _seat(directory: Path, hub: Hub, device: str, python: str) -> Seat:
    claim = directory / f"{device}.json"
    claim.write_bytes(encode(hub.claim(device)))
    return Seat(Place(directory / device, claim, python), hub, hub.talks[device])


def _points(settings: Settings, courses: Sequence[Course], seat: Seat) -> list[Point]:
    kills, errors = (SHORT_KILLS, SHORT_ERRORS) if settings.short else (settings.kills, settings.errors)
    counts = {course.name: seat.calls[course.name].counts for course in courses}
    points = [
        *spread([point for name in counts for point in kill_points(name, counts[name])], kills),
        *spread([point for name in counts for point in error_points(name, counts[name])], errors),
    ]
    return points[settings.part :: settings.parts]


async def _work_off(points: list[Point], courses: Sequence[Course], seats: Sequence[Seat]) -> Tally:
    tally, left = Tally(), points[::-1]
    by_name = {course.name: course for course in courses}

    async def work(seat: Seat) -> None:
        while left:
            point = left.pop()
            tally.add(point, await seat.attempt(by_name[point.course], point))

    async with asyncio.TaskGroup() as group:
        for seat in seats:
            group.create_task(work(seat))
    return tally
