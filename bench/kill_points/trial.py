"""One point from beginning to end: prepare the device, start it under strace, see what is left, start it again."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.crash_states.releases import FEATURES
from bench.kill_points import judge
from bench.kill_points.agent import Place, start
from bench.kill_points.calls import Calls, inject, observe, read
from bench.kill_points.courses import Course
from bench.kill_points.hub import Hub, Talk
from bench.kill_points.points import Point
from edge_agent.client import AgentClient, AgentError

WAIT_S = 60.0
PATIENCE_S = 4.0
"""How long a device that was denied its disk may take to help itself, before it is killed."""
IGNORED = ("capture", "lock", "agent.sock")
"""Captures are SQLite's own business; the lock is for people to read."""


class NotPreparedError(Exception):
    """A device does not get to where its course begins: something more basic than this proof is broken."""


@dataclass(slots=True)
class Seat:
    """A device to try points on, one after the other. `templates`: its data directory at the start of each course."""

    place: Place
    hub: Hub
    talk: Talk
    templates: dict[str, Path | None] = field(default_factory=dict)
    calls: dict[str, Calls] = field(default_factory=dict)

    async def prepare(self, courses: Sequence[Course]) -> None:
        """Bring the device to the start of each course, and see what it does then. Raises NotPreparedError."""
        for course in courses:
            await self._set_up(None)
            for step in range(len(course.before)):
                await self._get_through(course, step)
            self.templates[course.name] = self._keep(course) if course.before else None
            await self._set_up(self.templates[course.name])
            log = self.place.directory.with_suffix(".strace")
            await self._get_through(course, len(course.before), observe(log))
            self.calls[course.name] = read(log, self.place.directory, IGNORED)

    async def attempt(self, course: Course, point: Point) -> list[str] | None:
        """What is broken; None if this point was never met."""
        await self._set_up(self.templates[course.name])
        step = len(course.before)
        strace = inject(point.call, point.rule, self.calls[course.name].paths)
        settled, _ = await self._live(course, step, WAIT_S if point.kills else PATIENCE_S, strace)
        if settled and point.kills:
            return None
        broken = [*judge.between(self.place.directory, course.had, self.talk)]
        broken += await self._again(course, step)
        return broken + self.talk.broken

    async def _again(self, course: Course, step: int) -> list[str]:
        """Start it with nothing in its way; should the disk have failed the attempt, the hub makes another."""
        settled, answered = await self._live(course, step)
        if settled and judge.may_try_again(self.place.directory):
            settled, answered = await self._live(course, step + 1)
        if not settled:
            return ["does not come to rest after it was started again"]
        wrong = [] if answered == course.ending.current else [f"an application was answered by {answered}"]
        return [*wrong, *judge.at_rest(self.place.directory, course.ending)]

    async def _live(
        self, course: Course, step: int, timeout_s: float = WAIT_S, strace: Sequence[str] = ()
    ) -> tuple[bool, str | int]:
        """Until this step has settled, the agent ends, or the time is over: (settled?, which version answers)."""
        await self.hub.desire(self.talk.device, course.assignment(self.talk.device, step))
        running = await start(self.place, strace)
        settled = asyncio.create_task(self.talk.until(lambda report: judge.settled(report, step + 1), timeout_s))
        ended = asyncio.create_task(running.ended(timeout_s))
        await asyncio.wait((settled, ended), return_when=asyncio.FIRST_COMPLETED)
        done = settled.done() and settled.result()
        answered = await asyncio.to_thread(_ask, self.place.socket) if done else ""
        settled.cancel()
        await running.kill()
        await asyncio.gather(settled, ended, return_exceptions=True)
        return done, answered

    async def _get_through(self, course: Course, step: int, strace: Sequence[str] = ()) -> None:
        settled, _ = await self._live(course, step, strace=strace)
        if not settled:
            raise NotPreparedError(f"{self.talk.device} does not get through {course.name}; see {self.place.log}")

    async def _set_up(self, template: Path | None) -> None:
        await self.hub.forget(self.talk.device)
        self.talk.begin()
        self.place.fill(template)

    def _keep(self, course: Course) -> Path:
        """A copy of the data directory as it is."""
        template = self.place.directory.with_name(f"{self.place.directory.name}-{course.name}")
        self.place.directory.rename(template)
        return template


def _ask(socket: Path) -> str | int:
    """An application asks the model: the version that answers, or why none does."""
    try:
        with AgentClient(socket) as agent:
            return agent.predict([0.0] * FEATURES).version
    except AgentError as error:
        return f"nobody: {error}"
