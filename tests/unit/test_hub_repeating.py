"""Jobs that are done again: what passes is put off, and a defect of ours is told until it is gone."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from cloud.errors import StoreError
from cloud.service.repeating import Failure, Failures, Repeated, repeat
from tests.worlds.hub_fakes import FakeClock
from wire.ports import LinkError

SECRET = "the token was flk_abc"


class Step:
    """A job that goes as the test says; every wake is answered at once."""

    def __init__(self, *ways: Exception | None) -> None:
        self.failures, self.clock = Failures(), FakeClock()
        self.seen: list[tuple[Failure, ...]] = []
        """What was known of its failing before each time."""
        self._ways = list(ways)

    async def woken(self) -> None:
        """Time passes."""
        self.clock.ns += 1

    async def step(self) -> None:
        """The next way, and after the last one nothing more."""
        self.seen.append(self.failures.now())
        if not self._ways:
            await asyncio.Event().wait()
        way = self._ways.pop(0)
        if way is not None:
            raise way

    async def done(self) -> asyncio.Task[None]:
        """It has gone all of its ways, and goes on."""
        task = asyncio.create_task(repeat(Repeated("pruning", self.woken, self.step), self.failures, self.clock))
        await asyncio.sleep(0)
        while self._ways:
            await asyncio.sleep(0)
        return task


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """In a loop of its own."""
    asyncio.run(scenario())


def test_a_defect_is_told_with_its_kind_and_place_and_without_its_words() -> None:
    """Since when, and when last; an outage in between changes nothing; what was done once more is told no longer."""

    async def scenario() -> None:
        step = Step(ValueError(SECRET), LinkError("away"), KeyError(SECRET), StoreError("full"), None)
        task = await step.done()
        began = 1_000_000_000
        first = Failure("pruning", began + 1, began + 1, "ValueError in cloud.service.repeating._once")
        again = Failure("pruning", began + 1, began + 3, "KeyError in cloud.service.repeating._once")
        assert step.seen == [(), (first,), (first,), (again,), (again,), ()]
        task.cancel()

    run(scenario)


def test_a_job_that_another_hub_does_now_is_told_no_longer() -> None:
    """It is cancelled here when this hub leads no more."""

    async def scenario() -> None:
        step = Step(ValueError(SECRET))
        task = await step.done()
        assert [one.job for one in step.failures.now()] == ["pruning"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert step.failures.now() == ()

    run(scenario)
