"""What is under way for each slot: the step that takes time, and the timers around it. They are given up together.

Each of them ends as an event in the mailbox of the reconciler.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from edge_agent.core.slot import AwaitWindow, Event, StepFailed, WindowOpened
from edge_agent.core.windows import wait_ns
from edge_agent.ports import Ports
from edge_agent.service.installation import Installation, Step
from edge_agent.service.mailbox import Happened
from edge_agent.service.tasks import Tasks
from wire.messages import Outcome
from wire.ports import SECOND, Timer

LOOK_AGAIN_NS = 900 * SECOND
UNTOLD_NS = 15 * SECOND
"""Until the next look while nobody has told the time; twice as long each time that it was asked for."""
MISSED = "the times in which it might have begun are over"


class UnderWay:
    """Begins steps and timers of slots; `put` takes what comes of them."""

    __slots__ = ("_installation", "_ports", "_put", "_steps", "_tasks", "_timers")

    def __init__(self, ports: Ports, installation: Installation, tasks: Tasks, put: Callable[[Happened], None]) -> None:
        self._ports = ports
        self._installation = installation
        self._tasks = tasks
        self._put = put
        self._steps: dict[str, asyncio.Task[None]] = {}
        self._timers: dict[str, list[Timer]] = {}

    def run(self, slot: str, step: Step, floor: int) -> None:
        """Carry out `step` as a task. `floor`: of its model, the lowest counter of a release that may be installed."""

        async def run() -> None:
            self._put(Happened(slot, await self._installation.perform(step, floor)))

        self._steps[slot] = self._tasks.spawn(run(), f"install-{slot}")

    def later(self, slot: str, seconds: float, event: Event) -> None:
        """Have `event` happen in so many seconds."""
        timer = self._ports.clock.call_later(int(seconds * SECOND), partial(self._put, Happened(slot, event)))
        self._timers.setdefault(slot, []).append(timer)

    def await_window(self, slot: str, effect: AwaitWindow, untold_ns: int = UNTOLD_NS) -> None:
        """By signed time alone, which may be set right while we wait: so it is looked at now and then."""
        trusting = self._installation.trusting
        told_ns = trusting.told_ns()
        left_ns = untold_ns if told_ns is None else wait_ns(effect.openings, told_ns)
        if told_ns is None and self._ports.link.connected:
            self._tasks.spawn(trusting.learn_time(), "learn-time")
            untold_ns = min(2 * untold_ns, LOOK_AGAIN_NS)
        if left_ns == 0:
            self._put(Happened(slot, WindowOpened(effect.ticket)))
        elif left_ns is None:
            self._put(Happened(slot, StepFailed(effect.ticket, Outcome.TIMED_OUT, MISSED)))
        else:
            again = partial(self.await_window, slot, effect, untold_ns)
            self._timers[slot] = [self._ports.clock.call_later(min(left_ns, LOOK_AGAIN_NS), again)]

    def abandon(self, slot: str) -> None:
        """Nothing of this slot is under way any more."""
        step = self._steps.pop(slot, None)
        if step is not None:
            step.cancel()
        for timer in self._timers.pop(slot, []):
            timer.cancel()

    def stop(self) -> None:
        """No more timers, nor the steps that they bound."""
        for slot in tuple(self._timers):
            self.abandon(slot)
